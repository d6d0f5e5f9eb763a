"""Unquantized Hugging Face checkpoints, run by transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..config import BackendConfig
from ..config.checks import one_of
from ..errors import UserInputError
from .base import Format, Recognised, Tensor
from .stored import refuse_packed

RUNNER = "lqmf_runner.engine.worker.runners.transformers:TransformersRunner"
NUMERIC_OPTIONS = ("batch_invariant", "dtype", "device", "device_map", "gpu_memory_mb")
PACKAGES = ("torch", "transformers", "accelerate")


@dataclass(frozen=True)
class TransformersBackend(BackendConfig):
    """An unquantized Hugging Face checkpoint.

    Attributes:
        dtype: "auto" is float16 on a GPU and the fastest correct one on a CPU.
        device_map: on GPUs. "auto" takes one GPU if the model fits there, else it divides the layers among all by
            their free memory. "balanced", "balanced_low_0", "sequential" and a device such as "cuda:1" are handed on.
        gpu_memory_mb: most of the model on each GPU, [20000, 10000], its draft model included; null is what is free,
            less what a step needs.
        cuda_graphs: record decode steps on a GPU and play them again, without Python between the kernels. Models over
            several GPUs are never recorded, and a recording that fails is given up.
        trust_remote_code: run Python code that comes with the model. Leave it off.
    """

    format: str = "transformers"
    dtype: str = "auto"
    device_map: str = "auto"
    gpu_memory_mb: list[float] | None = None
    cuda_graphs: bool = True
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("backend.dtype", self.dtype, ("auto", "float32", "float16", "bfloat16"))
        if self.gpu_memory_mb is not None and (not self.gpu_memory_mb or min(self.gpu_memory_mb) < 0):
            raise UserInputError(
                f"backend.gpu_memory_mb={self.gpu_memory_mb} is no limit", hint="one number for each GPU"
            )


def recognise(quantization: Mapping[str, Any] | None) -> Recognised | None:
    """Recognise a checkpoint that is not quantized; its tensors say the rest."""
    return Recognised("", 0.0) if quantization is None else None


def check_stored(
    tensors: Mapping[str, Tensor], quantization: Mapping[str, Any], read: Callable[[str], bytes]
) -> None:
    """Refuse tensors that only packed weights have."""
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
