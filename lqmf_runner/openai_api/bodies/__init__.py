"""Request bodies: JSON into checked structs, messages, sampling and constraints; accepted and refused fields."""
