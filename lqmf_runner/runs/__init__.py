"""Runs: the common parts of every run (context, folder, results), and the pipelines that modes start."""
