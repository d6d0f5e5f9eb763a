"""Models in the terminal: those that are there, those that were made, and those that arrive."""
