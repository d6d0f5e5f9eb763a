"""Runs: what every run has (context, folder, results), and the pipelines that modes start."""
