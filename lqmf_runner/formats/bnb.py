"""bitsandbytes checkpoints, 4-bit and 8-bit, run by transformers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..config.checks import one_of
from .base import Format, Recognised, Tensor
from .stored import refuse_missing, refuse_packed
from .transformers import NUMERIC_OPTIONS, PACKAGES, RUNNER, TransformersBackend

# What bitsandbytes stores beside a packed weight.
_STATE = re.compile(
    r"\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\.\w+|SCB|weight_format)$"
)
_NESTED = ("nested_absmax", "nested_quant_map")  # of scales that are quantized themselves


@dataclass(frozen=True)
class BnbBackend(TransformersBackend):
    """bitsandbytes.

    Attributes:
        quantize_on_load: "4bit" or "8bit" quantizes a checkpoint that is not yet quantized.
        llm_int8: compute 8-bit layers on a CPU as bitsandbytes does (LLM.int8(): activations are rounded to 8 bits
            too, and a request's answer can depend on what runs beside it). On a GPU that is always so.
    """

    format: str = "bnb"
    quantize_on_load: str | None = None
    llm_int8: bool = False

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


def check_stored(
    tensors: Mapping[str, Tensor], quantization: Mapping[str, Any], read: Callable[[str], bytes]
) -> None:
    """Refuse a packed weight without its state, and a state without its weight.

    Raises:
        ModelUnusableError: tensors are missing, or packed in another format's way.
    """
    refuse_packed(tensors, (".qweight", ".qzeros"), "the settings are those of bitsandbytes")
    missing = set[str]()
    described = {name.split(".quant_state.")[0] for name in tensors if ".quant_state." in name}
    for name in described:
        parts = [name, f"{name}.absmax", f"{name}.quant_map"]
        if any(f"{name}.{part}" in tensors for part in _NESTED):
            parts += [f"{name}.{part}" for part in _NESTED]
        missing.update(part for part in parts if part not in tensors)
    for name, tensor in tensors.items():
        base, _, kind = name.rpartition(".")
        if kind == "weight" and tensor.dtype == "I8" and f"{base}.SCB" not in tensors:
            missing.add(f"{base}.SCB")
        if kind == "SCB" and f"{base}.weight" not in tensors:
            missing.add(f"{base}.weight")
        if kind == "weight" and tensor.dtype == "U8" and name not in described:
            method = str(quantization.get("bnb_4bit_quant_type", "fp4"))
            missing.add(f"{name}.quant_state.bitsandbytes__{method}")
        if kind in ("absmax", "quant_map") and base not in described:
            missing.add(f"{base}.quant_state")
    refuse_missing(missing)


BNB = Format(
    name="bnb",
    label="bitsandbytes",
    backend=BnbBackend,
    runner=RUNNER,
    recognise=recognise,
    count_parameters=count_parameters,
    check_stored=check_stored,
    numeric_options=(*NUMERIC_OPTIONS, "quantize_on_load", "llm_int8"),
    packages=(*PACKAGES, "bitsandbytes"),
    extra="bnb",
)
