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
        flash_attn: None turns it on, except on a CPU with `batch_invariant`: a prompt's logits would depend on how it
            is cut into chunks.
        kv_type: of the KV cache, "f16", "f32" or "q8_0".
        speculation: off, since llama.cpp's rows on a CPU cost most of a step each; worth a try on a GPU.
    """

    format: str = "gguf"
    n_gpu_layers: int = -1
    n_ubatch: int = 512
    flash_attn: bool | None = None
    kv_type: str = "f16"
    use_mmap: bool = True
    speculation: str = "off"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("backend.n_ubatch", self.n_ubatch, 1)
        at_least("backend.n_gpu_layers", self.n_gpu_layers, -1)
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
    numeric_options=("batch_invariant", "device", "flash_attn", "kv_type", "n_gpu_layers"),
    overhead_mb=150.0,
    packages=("llama-cpp-python",),
    extra="gguf",
)
