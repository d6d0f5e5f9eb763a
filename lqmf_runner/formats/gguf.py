"""GGUF files, run by llama.cpp."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import BackendConfig
from ..config.checks import at_least, one_of
from ..errors import UserInputError
from .base import Format


@dataclass(frozen=True)
class GgufBackend(BackendConfig):
    """llama.cpp.

    Attributes:
        n_gpu_layers: layers on the GPU where there is one; -1 is all.
        split_mode: over several GPUs: "layer" gives each some layers, "row" a part of every matrix, "none" uses
            `main_gpu` alone.
        tensor_split: parts of the model on each GPU, [3, 1]; null plans them from the memory that is free.
        main_gpu: the GPU of a model that is not split; null is the one with the most free memory.
        flash_attn: None turns it on, except on a CPU with `batch_invariant`: a prompt's logits would depend on how it
            is cut into chunks.
        kv_type: of the KV cache, "f16", "f32" or "q8_0".
    """

    format: str = "gguf"
    n_gpu_layers: int = -1
    split_mode: str = "layer"
    tensor_split: list[float] | None = None
    main_gpu: int | None = None
    n_ubatch: int = 512
    flash_attn: bool | None = None
    kv_type: str = "f16"
    use_mmap: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("backend.n_ubatch", self.n_ubatch, 1)
        at_least("backend.n_gpu_layers", self.n_gpu_layers, -1)
        one_of("backend.split_mode", self.split_mode, ("layer", "row", "none"))
        if self.main_gpu is not None:
            at_least("backend.main_gpu", self.main_gpu, 0)
        if self.tensor_split is not None and (
            not self.tensor_split or min(self.tensor_split) < 0 or sum(self.tensor_split) <= 0
        ):
            raise UserInputError(
                f"backend.tensor_split={self.tensor_split} is no division of a model",
                hint="one part for each GPU, none negative and not all zero, e.g. [3,1]",
            )
        one_of("backend.kv_type", self.kv_type, ("f16", "f32", "q8_0"))
        if self.kv_type == "q8_0" and self.flash_attn is False:
            raise UserInputError(
                "backend.kv_type=q8_0 needs flash attention", hint="leave backend.flash_attn at null"
            )


GGUF = Format(
    name="gguf",
    label="GGUF",
    backend=GgufBackend,
    runner="lqmf_runner.engine.worker.runners.llama_cpp:LlamaCppRunner",
    embedder="lqmf_runner.engine.worker.runners.llama_embedding:LlamaEmbedder",
    magic=b"GGUF",
    reader="lqmf_runner.models.inspect:inspect_gguf",
    quantization_source=True,
    shown="GGUF {method}",
    numeric_options=(
        "batch_invariant",
        "device",
        "flash_attn",
        "kv_type",
        "n_gpu_layers",
        "split_mode",
        "tensor_split",
    ),
    overhead_mb=150.0,
    packages=("llama-cpp-python",),
    extra="gguf",
)
