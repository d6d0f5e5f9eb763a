"""Tasks of lm-evaluation-harness, run on an engine."""
