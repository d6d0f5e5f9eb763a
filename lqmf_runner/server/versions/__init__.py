"""Versions of models in a server: which one answers a name, and how another one replaces it."""
