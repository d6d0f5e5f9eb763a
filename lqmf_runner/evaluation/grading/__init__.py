"""Grades of answers: similarity to a reference answer, and a judge model."""
