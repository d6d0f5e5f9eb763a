"""Quality of a model's answers."""
