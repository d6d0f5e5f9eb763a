"""GGUF through llama.cpp's low-level API: many sequences in one context.

Every slot is its own stream in the KV cache (`kv_unified` off), so that a sequence attends to its own keys only. With
`batch_invariant` flash attention is off too. Only then are the logits of a sequence the same, bit for bit, at every
concurrency and with every division of its prompt into chunks.
Streams have a fixed size. When a slot outgrows it, a new context is made that is twice as large.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from ....cgroup import available_memory, usable_cores
from ....errors import DoesNotFitError, EngineError
from ....types import ModelInfo, ModelSpec
from ..text import BytesDetokenizer, Detokenizer
from .base import ModelRunner, Progress, Span, Tokenizer, asked_cache, one_request_at_a_time, plan_cache
from .blocks import BLOCK_BYTES, BlockCutter
from .llama_loading import (
    cache_values,
    has_k_quants,
    load_model,
    matrix_types,
    model_info,
    prepared,
    why_one_at_a_time,
)
from .llama_metadata import chat_templates, end_tokens, special_tokens, vocabulary_notes

_FIRST_STREAM = 256
_FLASH_AUTO, _FLASH_OFF, _FLASH_ON = -1, 0, 1
_K_QUANT_ROWS = 8  # with so many and more, llama.cpp takes other kernels for K-quants than with fewer
_KV_TYPES = {"f32": (0, 4.0), "f16": (1, 2.0), "q8_0": (8, 34 / 32)}  # enum ggml_type, bytes a value


class LlamaCppTokenizer(Tokenizer):
    """The vocabulary inside a GGUF."""

    def __init__(self, model: Any) -> None:
        self._vocab = llama_cpp.llama_model_get_vocab(model)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.eos_ids = end_tokens(model)
        self.add_bos = bool(llama_cpp.llama_vocab_get_add_bos(self._vocab))
        bos = llama_cpp.llama_vocab_bos(self._vocab)
        self.bos_id = bos if bos >= 0 else None
        self.special_tokens = special_tokens(model)
        self.chat_templates = chat_templates(model)
        self._pieces: dict[int, bytes] = {}

    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        data = text.encode("utf-8", errors="replace")
        if len(data) <= BLOCK_BYTES:
            return self._encode(data, parse_special)
        cutter = self._special_cutter if parse_special else self._plain_cutter
        return [token for block in cutter.blocks(data) for token in self._encode(block, parse_special)]

    @functools.cached_property
    def _special_cutter(self) -> BlockCutter:
        return self._cutter(llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED)

    @functools.cached_property
    def _plain_cutter(self) -> BlockCutter:
        """For texts in which control tokens are read as plain text."""
        return self._cutter(llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED)

    def _cutter(self, kinds: int) -> BlockCutter:
        """At special tokens of these kinds, but those that take the white space before them along."""
        marks = []
        for token in range(self.n_vocab):
            kind = llama_cpp.llama_vocab_get_attr(self._vocab, token)
            if kind & kinds and not kind & llama_cpp.LLAMA_TOKEN_ATTR_LSTRIP:
                marks.append(llama_cpp.llama_vocab_get_text(self._vocab, token) or b"")
        return BlockCutter(marks)

    def encode_whole(self, text: str) -> list[int]:
        """See `Tokenizer.encode_whole`, such as [CLS] and [SEP]."""
        return self._encode(text.encode("utf-8", errors="replace"), True, add_special=True)

    def _encode(self, data: bytes, parse_special: bool, add_special: bool = False) -> list[int]:
        if not data:
            return []
        size = len(data) + 16
        while True:
            tokens = (llama_cpp.llama_token * size)()
            n = llama_cpp.llama_tokenize(
                self._vocab, data, len(data), tokens, size, add_special, parse_special
            )
            if n >= 0:
                return list(tokens[:n])
            size = -n

    def entry(self, token: int) -> bytes:
        return llama_cpp.llama_vocab_get_text(self._vocab, token) or b""

    def detokenizer(self) -> Detokenizer:
        return BytesDetokenizer(self.token_bytes)

    def token_text(self, token: int) -> str:
        return self.token_bytes(token).decode(errors="replace")

    def token_bytes(self, token: int) -> bytes:
        piece = self._pieces.get(token)
        if piece is None:
            size = 64
            while True:
                buffer = ctypes.create_string_buffer(size)
                n = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, size, 0, False)
                if n >= 0:
                    break
                size = -n
            piece = self._pieces[token] = buffer.raw[:n]
        return piece


class Batch:
    """A `llama_batch` over arrays that numpy fills: a step costs no call per token."""

    def __init__(self, capacity: int) -> None:
        self.tokens = np.zeros(capacity, np.int32)
        self.positions = np.zeros(capacity, np.int32)
        self.wants_logits = np.zeros(capacity, np.int8)
        self.sequences = np.zeros(capacity, np.int32)
        self._one_sequence = np.ones(capacity, np.int32)
        base, item = self.sequences.ctypes.data, self.sequences.itemsize
        self._sequence_pointers = base + item * np.arange(capacity, dtype=np.uint64)
        self.struct = llama_cpp.llama_batch(
            n_tokens=0,
            token=_pointer(self.tokens, ctypes.c_int32),
            embd=None,
            pos=_pointer(self.positions, ctypes.c_int32),
            n_seq_id=_pointer(self._one_sequence, ctypes.c_int32),
            seq_id=_pointer(self._sequence_pointers, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(self.wants_logits, ctypes.c_int8),
        )

    def fill(self, spans: Sequence[Span]) -> int:
        """Lay the spans out one after the other; returns how many rows of logits they ask for."""
        at = rows = 0
        for span in spans:
            end = at + len(span.tokens)
            self.tokens[at:end] = span.tokens
            self.positions[at:end] = np.arange(span.start, span.start + len(span.tokens))
            self.sequences[at:end] = span.slot
            self.wants_logits[at : end - span.n_rows] = 0
            self.wants_logits[end - span.n_rows : end] = 1
            rows += span.n_rows
            at = end
        self.struct.n_tokens = at
        return rows


class LlamaCppRunner(ModelRunner):
    """One GGUF model in this process."""

    mixes_prompts = False

    def __init__(
        self,
        model: Any,
        info: ModelInfo,
        options: dict[str, Any],
        *,
        few_rows: bool = False,
        alone: bool = False,
    ) -> None:
        self._model = model
        self._options = options
        self._most_singles = info.max_slots
        if few_rows:
            self._most_singles, self.least_chunk = _K_QUANT_ROWS - 1, _K_QUANT_ROWS
        self._n_batch = max(options.get("n_batch", 512), info.max_slots, 2 * self.least_chunk)
        self._batch = Batch(self._n_batch)
        self._held = [0] * info.max_slots
        self._shortest = [0] * info.max_slots
        self._copied: int | None = None
        self._context: Any = None
        self._stream_size = 0
        self.info = info
        self.tokenizer = LlamaCppTokenizer(model)
        self.can_reuse_prefix = not (
            alone or llama_cpp.llama_model_is_recurrent(model) or llama_cpp.llama_model_is_hybrid(model)
        )
        self.keeps_prefixes = self.can_reuse_prefix
        # Of layers with sliding windows, llama.cpp saves the last window only.
        self.cuts_restored = llama_cpp.llama_model_n_swa(model) == 0
        self._grow(1)

    @classmethod
    def load(cls, spec: ModelSpec, progress: Progress, reserved: int = 0) -> LlamaCppRunner:
        found = prepared(spec)
        options, notes = spec.options, list[str]()
        invariant = options.get("batch_invariant", False)
        types = matrix_types(found.path) if invariant else frozenset[str]()
        few_rows = has_k_quants(types)
        model, on_gpu = load_model(spec, found.path, progress, notes, repack=not few_rows, reserved=reserved)
        alone = why_one_at_a_time(types, options, on_gpu) if invariant else ""
        if alone:
            spec = one_request_at_a_time(spec, notes, alone)
        n_train = llama_cpp.llama_model_n_ctx_train(model)
        n_ctx, max_slots = plan_cache(
            spec,
            n_train,
            _kv_bytes(model, options.get("kv_type", "f16"), 1),
            max(available_memory() - reserved, 0),
            notes,
        )
        notes += vocabulary_notes(model)
        info = model_info(spec, model, found, n_ctx, max_slots, on_gpu, notes)
        return cls(model, info, options, few_rows=few_rows, alone=bool(alone))

    @classmethod
    def needed_bytes(cls, spec: ModelSpec) -> int:
        """See `ModelRunner.needed_bytes`."""
        found = prepared(spec)
        n_ctx, max_slots = asked_cache(spec, found.context_length or spec.options.get("n_ctx") or 0)
        values = cache_values(found.path) * n_ctx * max_slots
        return int(found.size_mb * 1e6 + values * _KV_TYPES[spec.options.get("kv_type", "f16")][1])

    def reserve(self, batch: Sequence[Span]) -> None:
        self._grow(max(span.end for span in batch))

    def step(self, batch: Sequence[Span]) -> NDArray[np.float32]:
        """See `ModelRunner.step`. Single tokens run together, and so do prompts; each draft runs by itself.

        llama.cpp cuts a batch of unequal lengths into smaller ones, each of which reads all the weights. Prompts of
        similar length gain by it nevertheless. With `batch_invariant` each runs by itself, and of K-quants only so many
        single tokens run together as go through the kernels that one would.
        """
        self.reserve(batch)
        by_slot = sorted(batch, key=lambda s: s.slot)  # llama.cpp joins only sequences that follow each other
        singles = [s for s in by_slot if len(s.tokens) == 1]
        joined = [s for s in by_slot if len(s.tokens) > 1 and s.n_rows <= 1 and not self.info.batch_invariant]
        groups = [[s] for s in batch if len(s.tokens) > 1 and s not in joined]
        groups += [joined] if joined else []
        groups += [singles[at : at + self._most_singles] for at in range(0, len(singles), self._most_singles)]
        if len(groups) == 1 and groups[0] == list(batch):
            return self._decode(groups[0])
        rows: dict[int, NDArray[np.float32]] = {}
        for group in groups:
            logits, at = self._decode(group), 0
            for span in group:
                rows[span.slot] = logits[at : at + span.n_rows].copy()
                at += span.n_rows
        return np.concatenate([rows[span.slot] for span in batch])

    @property
    def _flash_attention(self) -> int:
        """As enum llama_flash_attn_type; llama.cpp itself leaves it out where a model or device cannot have it."""
        asked: bool | None = self._options.get("flash_attn")
        if asked is not None:
            return int(asked)
        if self._options.get("kv_type") == "q8_0":
            return _FLASH_ON
        return _FLASH_OFF if self.info.batch_invariant and self.info.device == "cpu" else _FLASH_AUTO

    def copy_prefix(self, src: int, dst: int, n: int) -> None:
        self.truncate(dst, 0)
        if n:
            # Between streams llama.cpp copies all or nothing; what is too much is cut off afterwards.
            llama_cpp.llama_memory_seq_cp(self._memory, src, dst, -1, -1)
            self._held[dst], self._shortest[dst], self._copied = self._held[src], self._shortest[src], dst
            self.truncate(dst, n)

    def truncate(self, slot: int, n: int) -> None:
        if self._held[slot] <= n:
            return
        if not llama_cpp.llama_memory_seq_rm(self._memory, slot, n or -1, -1):
            raise EngineError("llama.cpp could not drop a part of this model's cache")
        self._held[slot] = n
        if n == 0:
            self._shortest[slot] = 0

    def shortest_prefix(self, slot: int) -> int:
        return self._shortest[slot]

    def saved_bytes(self, slot: int, n: int) -> int:
        return int(llama_cpp.llama_state_seq_get_size(self._context, slot))

    def save(self, slot: int, n: int, memory: NDArray[np.uint8]) -> None:
        self._finish_copies()
        pointer = _pointer(memory, ctypes.c_uint8)
        if llama_cpp.llama_state_seq_get_data(self._context, pointer, memory.nbytes, slot) != memory.nbytes:
            raise EngineError("llama.cpp could not save a sequence")

    def restore(self, slot: int, n: int, memory: NDArray[np.uint8]) -> None:
        self._grow(n)
        self._finish_copies()
        self.truncate(slot, 0)
        pointer = _pointer(memory, ctypes.c_uint8)
        if llama_cpp.llama_state_seq_set_data(self._context, pointer, memory.nbytes, slot) != memory.nbytes:
            raise EngineError("llama.cpp could not read a sequence that it saved")
        self._held[slot] = n
        self._shortest[slot] = 0 if self.cuts_restored else n

    def _decode(self, spans: Sequence[Span]) -> NDArray[np.float32]:
        rows = self._batch.fill(spans)
        code = llama_cpp.llama_decode(self._context, self._batch.struct)
        if code != -1:  # of a batch that it does not begin with
            self._copied = None
        if code != 0:
            for span in spans:
                self._undo(span)
            why = {1: "no room in the KV cache", 2: "aborted"}.get(code, f"llama_decode returned {code}")
            raise EngineError(
                f"llama.cpp could not run this step: {why}", hint="fewer slots or a shorter context may help"
            )
        for span in spans:
            self._held[span.slot] = span.end
        if rows == 0:
            return np.empty((0, self.info.n_vocab), np.float32)
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits(self._context), (rows, self.info.n_vocab))

    def _undo(self, span: Span) -> None:
        """Drop what a failed batch has left of a span: llama.cpp keeps the parts of the batch that it had computed."""
        if not llama_cpp.llama_memory_seq_rm(self._memory, span.slot, span.start, -1):
            self._held[span.slot] = span.end  # a recurrent model can only drop all of it

    def _finish_copies(self) -> None:
        """Let llama.cpp copy between streams now.

        It only notes a copy, and makes it with the next batch, from what the source holds then. A state that is read or
        written before would be the wrong one. So a token is computed behind what was copied, and dropped.
        """
        if (slot := self._copied) is not None:
            self._batch.fill([Span(slot, [0], self._held[slot], 0)])
            llama_cpp.llama_decode(
                self._context, self._batch.struct
            )  # without room for the token it copies too
            llama_cpp.llama_memory_seq_rm(self._memory, slot, self._held[slot], -1)
            self._copied = None

    def _grow(self, stream_size: int) -> None:
        """Make sure a slot can hold so many tokens; what the slots hold moves along."""
        if stream_size <= self._stream_size:
            return
        stream_size = max(1 << (stream_size - 1).bit_length(), _FIRST_STREAM)
        context = self._make_context(stream_size)
        if self._context is not None:
            self._finish_copies()
            moved = [slot for slot, held in enumerate(self._held) if held]
            try:
                for slot in moved:
                    _move_sequence(self._context, context, slot)
            except BaseException:
                llama_cpp.llama_free(context)
                raise
            for slot in moved:
                self._shortest[slot] = 0 if self.cuts_restored else self._held[slot]
            llama_cpp.llama_free(self._context)
        self._context, self._memory = context, llama_cpp.llama_get_memory(context)
        self._stream_size = stream_size

    def _make_context(self, stream_size: int) -> Any:
        params = llama_cpp.llama_context_default_params()
        params.n_seq_max = self.info.max_slots
        params.n_ctx = params.n_seq_max * stream_size
        params.n_batch = self._n_batch
        params.n_ubatch = min(self._options.get("n_ubatch", 512), self._n_batch)
        params.n_threads = params.n_threads_batch = self._options.get("n_threads") or usable_cores()
        params.kv_unified = False
        params.swa_full = True
        params.no_perf = True
        kv_type = self._options.get("kv_type", "f16")
        params.type_k = params.type_v = _KV_TYPES[kv_type][0]
        params.flash_attn_type = self._flash_attention
        needed, free = _kv_bytes(self._model, kv_type, params.n_ctx), available_memory()
        context = llama_cpp.llama_init_from_model(self._model, params) if needed < free else None
        if not context:
            why = "which could not be allocated" if needed < free else f"{free / 1e6:.0f} MB are free"
            raise DoesNotFitError(
                f"the KV cache of '{self.info.name}' needs {needed / 1e6:.0f} MB for {params.n_seq_max} requests of "
                f"{stream_size} tokens, {why}",
                hint="lower backend.max_slots or backend.n_ctx, or unload another model",
            )
        return context


def _move_sequence(old: Any, new: Any, slot: int) -> None:
    size = llama_cpp.llama_state_seq_get_size(old, slot)
    state = (ctypes.c_uint8 * size)()
    n = llama_cpp.llama_state_seq_get_data(old, state, size, slot)
    if llama_cpp.llama_state_seq_set_data(new, state, n, slot) == 0:
        raise EngineError("llama.cpp could not move a sequence to a larger KV cache")


def _kv_bytes(model: Any, kv_type: str, n_tokens: int) -> int:
    heads = max(llama_cpp.llama_model_n_head(model), 1)
    width = llama_cpp.llama_model_n_embd(model) // heads * llama_cpp.llama_model_n_head_kv(model)
    return int(2 * width * _KV_TYPES[kv_type][1]) * llama_cpp.llama_model_n_layer(model) * n_tokens


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))
