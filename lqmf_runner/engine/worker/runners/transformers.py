"""Hugging Face checkpoints: unquantized, bitsandbytes and GPTQ. The formats differ only in how they load."""

from __future__ import annotations

import functools
import json
import os
import re
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import psutil
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.decoders import DecodeStream
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ....errors import DoesNotFitError, LqmfError, MissingDependencyError, ModelUnusableError
from ....formats import get_format
from ....models import FoundModel, inspect_model
from ....types import ModelInfo, ModelSpec
from ..text import Detokenizer
from .base import ModelRunner, Progress, Span, Tokenizer, loaded_info, plan_cache
from .int8 import keep_activations
from .slot_attention import NAME, SlotAttention, SlotCache, StepPlan

_ATTENTION_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}
_SPARE_ROWS = 64  # of logits: how many may lie idle


class _StreamDetokenizer:
    """The tokenizer library's own incremental decoder."""

    def __init__(self, tokenizer: FastTokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._held: list[int] = []

    def add(self, token: int) -> str:
        text = self._stream.step(self._tokenizer, token) or ""
        self._held = [] if text else [*self._held, token]
        return text

    def finish(self) -> str:
        return self._tokenizer.decode(self._held, skip_special_tokens=True)


class HuggingFaceTokenizer(Tokenizer):
    """A `tokenizer.json` with its configuration."""

    def __init__(self, path: str, eos_ids: set[int]) -> None:
        wrapper = _read_tokenizer(path)
        self._tokenizer: FastTokenizer = wrapper.backend_tokenizer
        self._lock = threading.Lock()
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        if wrapper.eos_token_id is not None:
            eos_ids = eos_ids | {wrapper.eos_token_id}
        self.eos_ids = frozenset(eos_ids)
        self.bos_id = wrapper.bos_token_id
        with_special = self._tokenizer.encode("a", add_special_tokens=True).ids
        self.add_bos = self.bos_id is not None and with_special[:1] == [self.bos_id]
        self.chat_templates = _chat_templates(wrapper.chat_template, Path(path))
        self.special_tokens = {
            name: value for name, value in wrapper.special_tokens_map.items() if isinstance(value, str)
        }

    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        with self._lock:
            self._tokenizer.encode_special_tokens = not parse_special
            return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_chat(self, text: str) -> list[int]:
        """Without a BOS of its own, as in transformers: the template writes one where the model expects it."""
        return self.encode(text, parse_special=True)

    def detokenizer(self) -> Detokenizer:
        return _StreamDetokenizer(self._tokenizer)

    def token_text(self, token: int) -> str:
        return self._tokenizer.decode([token], skip_special_tokens=False)

    def token_bytes(self, token: int) -> bytes:
        if token in self._added:
            added = self._added[token]
            return b"" if added.special else added.content.encode()
        piece = self._tokenizer.id_to_token(token)
        return b"" if piece is None else piece_bytes(piece, self._decoders)

    @functools.cached_property
    def _added(self) -> dict[int, Any]:
        added: dict[int, Any] = self._tokenizer.get_added_tokens_decoder()
        return added

    @functools.cached_property
    def _decoders(self) -> list[dict[str, Any]]:
        decoder = self._tokenizer.decoder
        found = {} if decoder is None else json.loads(decoder.__getstate__())
        steps: list[dict[str, Any]] = found.get("decoders", [found])
        return steps


def _read_tokenizer(path: str) -> Any:
    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as error:
        raise ModelUnusableError(
            f"the model's tokenizer or chat template cannot be read: {type(error).__name__}: {error}",
            hint="fetch the model's files again",
        ) from error


def _chat_templates(found: str | dict[str, str] | None, folder: Path) -> dict[str, str]:
    """By name: transformers gives a single one as its text.

    Where files add templates and none of them is the default, transformers forgets the one of tokenizer_config.json.
    """
    named: dict[str, str | None] = {**found} if isinstance(found, dict) else {"default": found}
    settings = folder / "tokenizer_config.json"
    if "default" not in named and settings.is_file():
        configured = json.loads(settings.read_text(encoding="utf-8")).get("chat_template")
        named["default"] = configured if isinstance(configured, str) else None
    for name, source in named.items():
        if source is not None and not isinstance(source, str):
            raise ModelUnusableError(
                f"the chat template '{name}' in tokenizer_config.json is not a text",
                hint="fetch the model's files again",
            )
    return {name: source for name, source in named.items() if source}


def piece_bytes(piece: str, decoders: Sequence[dict[str, Any]]) -> bytes:
    """The bytes of a vocabulary entry, given the decoders of its `tokenizer.json` in their order."""
    for step in decoders:
        match step:
            case {"type": "ByteLevel"}:
                alphabet = _byte_alphabet()
                if all(character in alphabet for character in piece):
                    return bytes(alphabet[character] for character in piece)
            case {"type": "Metaspace", "replacement": str(space)}:
                piece = piece.replace(space, " ")
            case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)}:
                piece = piece.replace(old, new)
            case {"type": "ByteFallback"} if code := re.fullmatch("<0x([0-9A-F]{2})>", piece):
                return bytes([int(code[1], 16)])
            case {"type": "BPEDecoder", "suffix": str(suffix)}:
                piece = piece.replace(suffix, " ")
    return piece.encode()


@functools.cache
def _byte_alphabet() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones stand for themselves, the others for 256 and up in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


class TransformersRunner(ModelRunner):
    """One Hugging Face causal language model in this process."""

    def __init__(self, model: Any, tokenizer: HuggingFaceTokenizer, info: ModelInfo) -> None:
        self._model = model
        self._device = model.device
        self._cache = SlotCache(info.max_slots)
        self._attention = SlotAttention(self._cache)
        self._logits = torch.empty((0, info.n_vocab), dtype=torch.float32)
        ALL_ATTENTION_FUNCTIONS.register(NAME, self._attention)
        model.set_attn_implementation(NAME)
        self.tokenizer = tokenizer
        self.info = info

    @classmethod
    def load(cls, spec: ModelSpec, progress: Progress) -> TransformersRunner:
        options, notes = spec.options, list[str]()
        found = inspect_model(spec.path, trust_remote_code=options.get("trust_remote_code", False))
        if found.problem:
            raise ModelUnusableError(
                f"'{spec.name}' cannot be loaded: {found.problem}", hint="fetch its files again"
            )
        _quiet()
        torch.set_num_threads(options.get("n_threads") or len(os.sched_getaffinity(0)))
        torch.set_grad_enabled(False)
        config = AutoConfig.from_pretrained(
            spec.path, trust_remote_code=options.get("trust_remote_code", False)
        )
        text_config = config.get_text_config()
        _check_architecture(spec.name, text_config)
        progress(0.2)
        model, device, dtype = _load_model(spec, config, found, notes)
        progress(0.9)
        n_train = getattr(text_config, "max_position_embeddings", None) or 4096
        free = torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available
        n_ctx, max_slots = plan_cache(spec, n_train, _kv_bytes_per_token(text_config, dtype), free, notes)
        tokenizer = HuggingFaceTokenizer(spec.path, _eos_ids(model))
        info = loaded_info(
            spec,
            found,
            n_ctx=n_ctx,
            n_vocab=model.get_output_embeddings().weight.shape[0],
            max_slots=max_slots,
            device=device,
            dtype=str(dtype).removeprefix("torch."),
            chat_template=bool(tokenizer.chat_templates),
            notes=notes,
        )
        return cls(model, tokenizer, info)

    @torch.inference_mode()
    def step(self, batch: Sequence[Span]) -> NDArray[np.float32]:
        self._cache.reserve(max(s.slot for s in batch) + 1, max(s.end for s in batch))
        plan = self._attention.plan = StepPlan(batch, self._cache.capacity, self._device)
        wanted: dict[int, list[int]] = {}
        at = 0
        for span in plan.order:
            at += len(span.tokens)
            wanted[span.slot] = list(range(at - span.n_rows, at))
        rows = [row for span in batch for row in wanted[span.slot]]
        output = self._model(
            input_ids=plan.tokens,
            position_ids=plan.positions,
            use_cache=False,
            logits_to_keep=torch.tensor(rows or [0], device=self._device),
        )
        return self._to_numpy(output.logits[0, : len(rows)])

    def _to_numpy(self, logits: torch.Tensor) -> NDArray[np.float32]:
        """As float32 in main memory; that of a copy is kept while it fits, as new memory takes ten times as long."""
        if logits.dtype == torch.float32 and logits.device.type == "cpu":
            own: NDArray[np.float32] = logits.numpy()
            return own
        n = logits.shape[0]
        if not n <= self._logits.shape[0] <= 4 * n + _SPARE_ROWS:
            self._logits = torch.empty(logits.shape, dtype=torch.float32)
        kept: NDArray[np.float32] = self._logits[:n].copy_(logits).numpy()
        return kept

    @torch.inference_mode()
    def copy_prefix(self, src: int, dst: int, n: int) -> None:
        self._cache.reserve(max(src, dst) + 1, n)
        self._cache.copy_prefix(src, dst, n)

    def truncate(self, slot: int, n: int) -> None:
        """Nothing to do: what lies behind a slot's last token is never attended to."""


def _load_model(
    spec: ModelSpec, config: Any, found: FoundModel, notes: list[str]
) -> tuple[Any, str, torch.dtype]:
    options = spec.options
    asked = options.get("device", "auto")
    if asked == "cuda" and not torch.cuda.is_available():
        raise ModelUnusableError("there is no CUDA GPU that torch can use", hint="use backend.device=cpu")
    on_gpu = torch.cuda.is_available() and asked != "cpu"
    dtype = _dtype(options.get("dtype", "auto"), on_gpu)
    if not on_gpu:
        dtype = _fit_weights(spec, found, dtype, notes)
    try:
        return _from_pretrained(spec, config, dtype, on_gpu)
    except torch.OutOfMemoryError as error:
        if on_gpu and options.get("fallback", True):
            notes.append("the model did not fit on the GPU: it runs on the CPU")
            torch.cuda.empty_cache()
            dtype = _fit_weights(spec, found, _dtype(options.get("dtype", "auto"), on_gpu=False), notes)
            return _from_pretrained(spec, config, dtype, on_gpu=False)
        raise DoesNotFitError(
            f"'{spec.name}' does not fit on the GPU", hint="unload another model"
        ) from error
    except MemoryError as error:
        raise DoesNotFitError(f"'{spec.name}' does not fit in memory", hint="unload another model") from error
    except ImportError as error:
        raise MissingDependencyError(
            f"'{spec.name}' needs a package that is not installed: {error}",
            hint=get_format(spec.format).install,
        ) from error
    except LqmfError:
        raise
    except Exception as error:
        raise ModelUnusableError(
            f"transformers cannot load '{spec.name}': {type(error).__name__}: {error}",
            hint="the files may be damaged, or made for another version of transformers",
        ) from error


def _from_pretrained(
    spec: ModelSpec, config: Any, dtype: torch.dtype, on_gpu: bool
) -> tuple[Any, str, torch.dtype]:
    options = spec.options
    arguments: dict[str, Any] = {"dtype": dtype, "config": config}
    if on_gpu:
        arguments["device_map"] = options.get("device_map", "auto")
    if spec.format == "bnb":
        arguments["quantization_config"] = _bnb_config(config, options, dtype)
    model = AutoModelForCausalLM.from_pretrained(
        spec.path,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=options.get("trust_remote_code", False),
        **arguments,
    )
    # A checkpoint that is already quantized keeps the dtype it was saved in; what is not quantized has to follow ours.
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    if spec.format == "bnb" and not on_gpu:
        keep_activations(model)
    return model.eval(), "cuda" if on_gpu else "cpu", dtype


def _dtype(name: str, on_gpu: bool) -> torch.dtype:
    """float16 on a GPU. On a CPU bfloat16 where it has instructions for it, else float32."""
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if on_gpu:
        return torch.float16
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def _fit_weights(spec: ModelSpec, found: FoundModel, dtype: torch.dtype, notes: list[str]) -> torch.dtype:
    """The dtype whose weights fit into main memory: the asked one, else half its size where that may be chosen.

    Raises:
        DoesNotFitError: with the numbers.
    """
    free = psutil.virtual_memory().available
    quantized = spec.format in ("bnb", "gptq") and not spec.options.get("quantize_on_load")
    needed = found.size_mb * 1e6 if quantized else float(found.parameters * dtype.itemsize)
    if needed < free:
        return dtype
    if not quantized and dtype == torch.float32 and needed / 2 < free and spec.options.get("fallback", True):
        notes.append("the model does not fit in memory as float32: it runs in bfloat16, which is slower here")
        return torch.bfloat16
    raise DoesNotFitError(
        f"'{spec.name}' needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free",
        hint="unload another model, or use a smaller quantization",
    )


def _kv_bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    n_kv_heads = getattr(config, "num_key_value_heads", None) or heads
    return 2 * config.num_hidden_layers * n_kv_heads * width * dtype.itemsize


def _bnb_config(config: Any, options: dict[str, Any], dtype: torch.dtype) -> Any:
    """How to load a bitsandbytes checkpoint, or how to quantize an unquantized one while loading it.

    The compute dtype is the one that is fast here, whatever machine the checkpoint was made on.
    """
    stored = getattr(config, "quantization_config", None)
    if stored is not None:
        stored["bnb_4bit_compute_dtype"] = str(dtype).removeprefix("torch.")
        return None
    bits = options.get("quantize_on_load")
    return BitsAndBytesConfig(
        load_in_4bit=bits == "4bit",
        load_in_8bit=bits == "8bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
    )


def _check_architecture(name: str, config: Any) -> None:
    """Only layers of plain attention have a cache that can be divided into slots."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if unknown := kinds - _ATTENTION_LAYERS:
        raise ModelUnusableError(
            f"'{name}' has layers of a kind that cannot be batched here: {', '.join(sorted(unknown))}",
            hint="use a GGUF of this model",
        )


def _eos_ids(model: Any) -> set[int]:
    eos = model.generation_config.eos_token_id if model.generation_config is not None else None
    if eos is None:
        eos = model.config.get_text_config().eos_token_id
    if eos is None:
        return set()
    return set(eos) if isinstance(eos, (list, tuple)) else {eos}


def _quiet() -> None:
    """The libraries' warnings and progress bars are not for the user."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")
