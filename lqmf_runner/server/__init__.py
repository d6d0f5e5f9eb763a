"""The REST server: OpenAI's API and a native one over a pool of models."""
