"""Quantization: one file for each method. Each runs in a child process, and each result is verified by reloading it."""

from ..lineage import METADATA_FILE
from .base import Proof, Report
from .methods import METHODS
from .run import QuantizationRecord, Quantized, output_name, quantize

__all__ = [
    "METADATA_FILE",
    "METHODS",
    "Proof",
    "QuantizationRecord",
    "Quantized",
    "Report",
    "output_name",
    "quantize",
]
