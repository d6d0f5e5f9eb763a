"""Readers of model files: GGUF headers, safetensors headers, Hugging Face checkpoints. No weights are loaded here."""
