"""Quality of a model and of its answers."""
