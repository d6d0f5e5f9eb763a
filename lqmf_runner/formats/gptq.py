"""GPTQ checkpoints, run by transformers and GPT-QModel."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ModelUnusableError
from .base import Format, Recognised, Tensor
from .stored import named, refuse_missing
from .transformers import NUMERIC_OPTIONS, PACKAGES, RUNNER, TransformersBackend

# What GPTQ stores beside a packed weight.
_STATE = re.compile(r"\.(qzeros|scales|g_idx)$")
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output)\.qweight$")
_LAYER = re.compile(r"\.\d+\.")
V1, V2 = "gptq", "gptq_v2"
"""Layouts of the zero points: less one, and as they are."""


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
    layout = quantization.get("checkpoint_format") or V1
    if layout not in (V1, V2) or quantization.get("is_marlin_format"):
        raise ModelUnusableError(
            f"its GPTQ weights are laid out as {layout if layout not in (V1, V2) else 'marlin'!r}",
            hint=f"supported: {V1} and {V2}",
        )
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


def check_stored(
    tensors: Mapping[str, Tensor], quantization: Mapping[str, Any], read: Callable[[str], bytes]
) -> None:
    """Refuse packed weights that are incomplete, mis-shaped or not in all layers, a packed head, wrong zero points.

    Raises:
        ModelUnusableError: it names the tensors.
    """
    packed = sorted(name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight"))
    beside = ("qzeros", "scales", "g_idx") if quantization.get("desc_act") else ("qzeros", "scales")
    missing = {f"{base}.{part}" for base in packed for part in beside if f"{base}.{part}" not in tensors}
    for name in tensors:
        base, _, kind = name.rpartition(".")
        if kind in ("qzeros", "scales") and f"{base}.qweight" not in tensors:
            missing.add(f"{base}.qweight")
    refuse_missing(missing)
    if not packed:
        raise ModelUnusableError(
            "its settings say GPTQ, but none of its tensors is a packed weight (*.qweight)"
        )
    if heads := [name for name in tensors if _HEAD.search(name)]:
        raise ModelUnusableError(
            f"its output head is quantized ({named(heads)}), which transformers does not load for GPTQ",
            hint="use a version whose lm_head is not quantized",
        )
    bits = int(quantization["bits"])
    if odd := [base for base in packed if not _fits(tensors, base, bits, quantization.get("group_size"))]:
        raise ModelUnusableError(
            f"the shapes of {len(odd)} packed weights contradict each other or the settings: {named(odd)}"
            + _own_rules(quantization),
            hint="fetch the model's files again, or convert it again",
        )
    kinds = {_LAYER.sub(".N.", base) for base in packed}
    plain = [name for name in tensors if _LAYER.sub(".N.", name.removesuffix(".weight")) in kinds]
    if plain:
        raise ModelUnusableError(
            f"{len(plain)} weights are plain that are packed in other layers: {named(plain)}{_own_rules(quantization)}",
            hint="use a version that is quantized alike in all layers; others cannot be loaded",
        )
    _check_zeros(tensors, f"{packed[0]}.qzeros", bits, quantization, read)


def _own_rules(quantization: Mapping[str, Any]) -> str:
    return (
        "; its settings have rules of their own for some modules (dynamic)"
        if quantization.get("dynamic")
        else ""
    )


def _fits(tensors: Mapping[str, Tensor], base: str, bits: int, group: object) -> bool:
    weight, zeros, scales = (tensors[f"{base}.{part}"].shape for part in ("qweight", "qzeros", "scales"))
    if not len(weight) == len(zeros) == len(scales) == 2:
        return False
    rows = weight[0] * 32 // bits
    groups = -(-rows // group) if isinstance(group, int) and group > 0 else 1
    return scales == (groups, weight[1]) and zeros == (groups, -(-weight[1] * bits // 32))


def _check_zeros(
    tensors: Mapping[str, Tensor],
    name: str,
    bits: int,
    quantization: Mapping[str, Any],
    read: Callable[[str], bytes],
) -> None:
    """Symmetric zero points are all the middle of the range; the other layout's middle is a wrong label."""
    if quantization.get("sym") is not True:
        return
    label = quantization.get("checkpoint_format") or V1
    other, middle = (V2, 1 << (bits - 1)) if label == V1 else (V1, (1 << (bits - 1)) - 1)
    groups, words = tensors[name].shape
    columns = 32 * words // bits
    row = middle * (((1 << bits * columns) - 1) // ((1 << bits) - 1))
    if read(name) == row.to_bytes(4 * words, "little") * groups:
        raise ModelUnusableError(
            f"its zero points ({name}) are those of checkpoint_format {other!r}, but its settings say {label!r}",
            hint=f'write "checkpoint_format": "{other}" into its quantization settings',
        )


GPTQ = Format(
    name="gptq",
    label="GPTQ",
    backend=GptqBackend,
    runner=RUNNER,
    recognise=recognise,
    count_parameters=count_parameters,
    check_stored=check_stored,
    numeric_options=NUMERIC_OPTIONS,
    packages=(*PACKAGES, "gptqmodel", "optimum"),
    extra="gptq",
)
