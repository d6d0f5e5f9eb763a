"""Which model, in which format: the groups `model` and `backend`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import UserInputError
from .checks import MISSING, at_least, one_of, positive

FORMATS = ("auto", "gguf", "bnb", "gptq", "transformers", "openai")


@dataclass(frozen=True)
class ModelConfig:
    """Which model, and where its weights may be. The first place that exists wins: path, package, hub.

    Attributes:
        path: folder or file; relative paths are looked up in `models_dir`.
        package: an installed Python package that holds `file`.
        hub_id: `owner/name` on the Hugging Face hub, with `revision`, and `file` (a glob) for a GGUF.
    """

    name: str = MISSING
    path: str | None = None
    package: str | None = None
    file: str | None = None
    hub_id: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class BackendConfig:
    """Settings that every format shares.

    Attributes:
        format: "auto" recognises it from the files.
        n_ctx: context length a request may use, in tokens; null takes the model's own, at most 4096.
        max_slots: sequences that run at the same time.
        max_queue: requests that may wait before new ones are refused.
        prefill_chunk: most prompt tokens in one step while other requests are decoding.
        n_batch: most tokens in one step.
        prefix_reuse: reuse the KV cache of a common prompt prefix.
        n_threads: null takes all cores this process may use.
        device: "auto", "cpu" or "cuda".
        fallback: when a load does not fit, try fewer GPU layers, the CPU, a shorter context, and say so.
        load_timeout_s: give up on a load after so many seconds.
    """

    format: str = "auto"
    n_ctx: int | None = None
    max_slots: int = 16
    max_queue: int = 512
    prefill_chunk: int = 128
    n_batch: int = 512
    prefix_reuse: bool = True
    n_threads: int | None = None
    device: str = "auto"
    fallback: bool = True
    load_timeout_s: float = 600.0

    def __post_init__(self) -> None:
        for name, low in (("max_slots", 1), ("max_queue", 0), ("prefill_chunk", 4), ("n_batch", 4)):
            at_least(f"backend.{name}", getattr(self, name), low)
        for name in ("n_ctx", "n_threads"):
            value = getattr(self, name)
            if value is not None:
                at_least(f"backend.{name}", value, 1)
        one_of("backend.format", self.format, FORMATS)
        one_of("backend.device", self.device, ("auto", "cpu", "cuda"))
        positive("backend.load_timeout_s", self.load_timeout_s)


@dataclass(frozen=True)
class GgufBackend(BackendConfig):
    """llama.cpp.

    Attributes:
        n_gpu_layers: layers on the GPU where there is one; -1 is all.
        flash_attn: None is on a GPU, and where the KV cache is quantized, which needs it. On a CPU llama.cpp's is slow
            beyond a hundred tokens, and a prompt's numbers depend on how it is cut into chunks.
        kv_type: of the KV cache, "f16", "f32" or "q8_0".
        batch_invariant: compute K-quants on a CPU so that an answer is the same alone and in a crowd; off, many
            requests at once are faster.
    """

    format: str = "gguf"
    n_gpu_layers: int = -1
    n_ubatch: int = 512
    flash_attn: bool | None = None
    kv_type: str = "f16"
    use_mmap: bool = True
    batch_invariant: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("backend.n_ubatch", self.n_ubatch, 1)
        at_least("backend.n_gpu_layers", self.n_gpu_layers, -1)
        one_of("backend.kv_type", self.kv_type, ("f16", "f32", "q8_0"))
        if self.kv_type == "q8_0" and self.flash_attn is False:
            raise UserInputError(
                "backend.kv_type=q8_0 needs flash attention", hint="leave backend.flash_attn at null"
            )


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


@dataclass(frozen=True)
class BnbBackend(TransformersBackend):
    """bitsandbytes. `quantize_on_load` ("4bit", "8bit") quantizes a checkpoint that is not yet quantized."""

    format: str = "bnb"
    quantize_on_load: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quantize_on_load is not None:
            one_of("backend.quantize_on_load", self.quantize_on_load, ("4bit", "8bit"))


@dataclass(frozen=True)
class GptqBackend(TransformersBackend):
    """GPTQ checkpoints, through GPT-QModel."""

    format: str = "gptq"


@dataclass(frozen=True)
class OpenAIBackend(BackendConfig):
    """Any OpenAI-compatible endpoint. The key is read from the environment variable `api_key_env`."""

    format: str = "openai"
    base_url: str = "http://127.0.0.1:8080/v1"
    api_key_env: str = "OPENAI_API_KEY"
    remote_model: str | None = None
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("backend.timeout_s", self.timeout_s)
        if self.api_key_env and not re.fullmatch(r"[A-Za-z_]\w*", self.api_key_env, re.ASCII):
            raise UserInputError(
                "backend.api_key_env is not the name of an environment variable",
                hint="put the key into a variable and name that, e.g. OPENAI_API_KEY",
            )
        if not self.base_url.startswith(("http://", "https://")):
            raise UserInputError(
                f"backend.base_url={self.base_url} is not the address of an endpoint",
                hint="it looks like http://127.0.0.1:8080/v1",
            )
