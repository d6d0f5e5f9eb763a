"""lqmf_runner: serve, benchmark and compare quantized language models."""

__version__ = "0.1.0"
