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
from transformers import AutoConfig, AutoTokenizer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ....errors import ModelUnusableError
from ....models import inspect_model
from ....types import ModelInfo, ModelSpec
from ..text import Detokenizer
from .base import ModelRunner, Progress, Span, Tokenizer, loaded_info, one_request_at_a_time, plan_cache
from .slot_attention import NAME, SlotAttention, SlotCache, StepPlan
from .transformers_loading import load_model

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
            f"the model's tokenizer or chat template cannot be read: {type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}",
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
        self.can_reuse_prefix = not info.batch_invariant

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
        model, device, dtype = load_model(spec, config, found, notes)
        progress(0.9)
        if invariant := options.get("batch_invariant", False):
            spec = one_request_at_a_time(spec, notes, "its kernels depend on the batch")
        n_train = getattr(text_config, "max_position_embeddings", None) or 4096
        free = torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available
        n_ctx, max_slots = plan_cache(spec, n_train, _kv_bytes_per_token(text_config, dtype), free, notes)
        tokenizer = HuggingFaceTokenizer(spec.path, _eos_ids(model))
        info = loaded_info(
            spec,
            found,
            n_ctx=n_ctx,
            n_vocab=_vocabulary(model.get_output_embeddings()),
            max_slots=max_slots,
            device=device,
            dtype=str(dtype).removeprefix("torch."),
            chat_template=bool(tokenizer.chat_templates),
            bos=tokenizer.bos_id if tokenizer.add_bos else None,
            batch_invariant=invariant,
            notes=notes,
        )
        runner = cls(model, tokenizer, info)
        runner.take_one_step()
        return runner

    def take_one_step(self) -> None:
        """Predict one token: kernels refuse a shape or a type only when they run.

        Raises:
            ModelUnusableError: the model cannot, or what it gives are no numbers.
        """
        try:
            logits = self.step([Span(slot=0, tokens=[0], start=0, n_rows=1)])
        except Exception as error:
            raise ModelUnusableError(
                f"'{self.info.name}' loads but cannot take a step: {type(error).__name__}: {error}",
                hint="use another backend.dtype or backend.device, or another quantization of the model",
            ) from error
        if np.isnan(logits).any():
            raise ModelUnusableError(
                f"'{self.info.name}' loads but gives no numbers (NaN) as {self.info.dtype}",
                hint="use another backend.dtype, or fetch the model's files again",
            )

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


def _kv_bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    n_kv_heads = getattr(config, "num_key_value_heads", None) or heads
    return 2 * config.num_hidden_layers * n_kv_heads * width * dtype.itemsize


def _vocabulary(head: Any) -> int:
    """Rows of the output head; a packed one has another number of stored rows."""
    return int(getattr(head, "out_features", None) or head.weight.shape[0])


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
