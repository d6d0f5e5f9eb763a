"""The modes that list, fetch and quantize models, and name their versions."""
