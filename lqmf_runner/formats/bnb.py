"""bitsandbytes checkpoints, 4-bit and 8-bit, run by transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..config.checks import one_of
from .base import Format, Recognised, Tensor
from .transformers import NUMERIC_OPTIONS, PACKAGES, RUNNER, TransformersBackend

# What bitsandbytes stores beside a packed weight.
_STATE = re.compile(
    r"\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\.\w+|SCB|weight_format)$"
)


@dataclass(frozen=True)
class BnbBackend(TransformersBackend):
    """bitsandbytes. `quantize_on_load` ("4bit", "8bit") quantizes a checkpoint that is not yet quantized."""

    format: str = "bnb"
    quantize_on_load: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quantize_on_load is not None:
            one_of("backend.quantize_on_load", self.quantize_on_load, ("4bit", "8bit"))


def recognise(quantization: Mapping[str, Any] | None) -> Recognised | None:
    """Recognise the settings that transformers saves for bitsandbytes; old ones do not name the method."""
    if quantization is None:
        return None
    kind = quantization.get("quant_method")
    if kind is None and (quantization.get("load_in_4bit") or quantization.get("load_in_8bit")):
        kind = "bitsandbytes"
    if kind != "bitsandbytes":
        return None
    if quantization.get("load_in_8bit"):
        return Recognised("int8", 8.0)
    label = str(quantization.get("bnb_4bit_quant_type", "fp4")).upper()
    return Recognised(label + (" dq" if quantization.get("bnb_4bit_use_double_quant") else ""), 4.0)


def count_parameters(tensors: Mapping[str, Tensor], bits: float) -> int:
    """Count a packed weight as the weights in it, and leave out what is stored beside it."""
    packed = {name.split(".weight.")[0] + ".weight" for name in tensors if ".weight.quant_state" in name}
    return sum(
        tensor.elements * _packed_per_element(tensor) if name in packed else tensor.elements
        for name, tensor in tensors.items()
        if not _STATE.search(name)
    )


def _packed_per_element(tensor: Tensor) -> int:
    """A byte holds two 4-bit weights, whatever the element type of the tensor is."""
    return 2 * tensor.nbytes // max(tensor.elements, 1)


BNB = Format(
    name="bnb",
    label="bitsandbytes",
    backend=BnbBackend,
    runner=RUNNER,
    recognise=recognise,
    count_parameters=count_parameters,
    numeric_options=(*NUMERIC_OPTIONS, "quantize_on_load"),
    packages=(*PACKAGES, "bitsandbytes"),
    extra="bnb",
)
