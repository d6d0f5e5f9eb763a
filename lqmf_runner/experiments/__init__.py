"""Experiments on a loaded model: load generation, the metrics made from it, and the results a run leaves."""
