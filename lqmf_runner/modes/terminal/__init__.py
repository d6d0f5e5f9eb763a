"""The modes that a person types to."""
