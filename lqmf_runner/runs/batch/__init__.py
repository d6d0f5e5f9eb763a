"""Answers to every line of a file, keyed so that a later run continues."""
