"""Request bodies: JSON into checked structs, messages, sampling and constraints; which fields are taken and refused."""
