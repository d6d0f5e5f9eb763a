"""Typed questions about a state, answered with a probability for every option."""
