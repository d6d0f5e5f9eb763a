"""Ollama's JSON in both directions, without sockets: bodies to generation requests, answers to its objects."""
