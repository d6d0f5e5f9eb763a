"""Quantizing: one file a method, each run in a child process, each result proved by reloading it."""

from .base import Proof, Report
from .methods import METHODS
from .run import METADATA_FILE, QuantizationRecord, Quantized, quantize

__all__ = ["METADATA_FILE", "METHODS", "Proof", "QuantizationRecord", "Quantized", "Report", "quantize"]
