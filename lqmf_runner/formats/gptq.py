"""GPTQ checkpoints, run by transformers and GPT-QModel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ModelUnusableError
from .base import Format, Recognised, Tensor
from .transformers import NUMERIC_OPTIONS, PACKAGES, RUNNER, TransformersBackend

# What GPTQ stores beside a packed weight.
_STATE = re.compile(r"\.(qzeros|scales|g_idx)$")


@dataclass(frozen=True)
class GptqBackend(TransformersBackend):
    """GPTQ checkpoints, through GPT-QModel."""

    format: str = "gptq"


def recognise(quantization: Mapping[str, Any] | None) -> Recognised | None:
    """Recognise GPTQ by name.

    Raises:
        ModelUnusableError: the number of bits is impossible.
    """
    if quantization is None or quantization.get("quant_method") != "gptq":
        return None
    bits, group = quantization.get("bits"), quantization.get("group_size")
    if bits not in (2, 3, 4, 8):
        raise ModelUnusableError(f"config.json is damaged: GPTQ with {bits!r} bits")
    grouped = isinstance(group, int) and group > 0
    return Recognised(f"GPTQ {bits}-bit " + (f"g{group}" if grouped else "per channel"), float(bits))


def count_parameters(tensors: Mapping[str, Tensor], bits: float) -> int:
    """Count the weights that are packed into 32-bit integers, and leave out what is stored beside them."""
    per_int32 = 32 / bits
    return sum(
        int(tensor.elements * per_int32) if name.endswith(".qweight") else tensor.elements
        for name, tensor in tensors.items()
        if not _STATE.search(name)
    )


GPTQ = Format(
    name="gptq",
    label="GPTQ",
    backend=GptqBackend,
    runner=RUNNER,
    recognise=recognise,
    count_parameters=count_parameters,
    numeric_options=NUMERIC_OPTIONS,
    packages=(*PACKAGES, "gptqmodel", "optimum"),
    extra="gptq",
)
