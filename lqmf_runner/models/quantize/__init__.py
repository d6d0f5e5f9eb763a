"""Quantizing: one file a method, each run in a child process, each result proved by reloading it."""

from ..lineage import METADATA_FILE
from .base import Proof, Report
from .methods import METHODS
from .run import QuantizationRecord, Quantized, quantize

__all__ = ["METADATA_FILE", "METHODS", "Proof", "QuantizationRecord", "Quantized", "Report", "quantize"]
