"""The loaded models: load on request, eviction, restart."""
