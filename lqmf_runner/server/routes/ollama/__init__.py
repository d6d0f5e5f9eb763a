"""Ollama's routes: answers, embeddings, and what models there are."""
