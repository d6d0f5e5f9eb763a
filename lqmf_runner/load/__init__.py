"""Load generation and the metrics made from it."""
