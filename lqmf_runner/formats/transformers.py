"""Unquantized Hugging Face checkpoints, run by transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..config import BackendConfig
from ..config.checks import one_of
from .base import Format, Recognised, Tensor
from .stored import refuse_packed

RUNNER = "lqmf_runner.engine.worker.runners.transformers:TransformersRunner"
NUMERIC_OPTIONS = ("batch_invariant", "dtype", "device", "device_map")
PACKAGES = ("torch", "transformers", "accelerate")


@dataclass(frozen=True)
class TransformersBackend(BackendConfig):
    """An unquantized Hugging Face checkpoint.

    Attributes:
        dtype: "auto" is float16 on a GPU and the fastest correct one on a CPU.
        device_map: handed to `from_pretrained` on a GPU.
        trust_remote_code: run Python code that comes with the model. Leave it off.
    """

    format: str = "transformers"
    dtype: str = "auto"
    device_map: str = "auto"
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("backend.dtype", self.dtype, ("auto", "float32", "float16", "bfloat16"))


def recognise(quantization: Mapping[str, Any] | None) -> Recognised | None:
    """Recognise a checkpoint that is not quantized; its tensors say the rest."""
    return Recognised("", 0.0) if quantization is None else None


def check_stored(
    tensors: Mapping[str, Tensor], quantization: Mapping[str, Any], read: Callable[[str], bytes]
) -> None:
    """Refuse what only packed weights have."""
    refuse_packed(
        tensors,
        (".qweight", ".SCB", ".absmax", ".weight_packed", ".qzeros"),
        "config.json does not say how they are quantized",
    )


TRANSFORMERS = Format(
    name="transformers",
    label="unquantized safetensors",
    backend=TransformersBackend,
    runner=RUNNER,
    recognise=recognise,
    check_stored=check_stored,
    unquantized=True,
    quantization_source=True,
    numeric_options=NUMERIC_OPTIONS,
    packages=PACKAGES,
    extra="transformers",
)
