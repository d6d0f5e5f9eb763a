"""GGUF models made for embeddings: whole texts in, a vector each, nothing kept between batches.

Encoders (BERT and its like) and decoders alike; llama.cpp pools as the file's `pooling_type` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np

from ....cgroup import usable_cores
from ....errors import DoesNotFitError, EngineError
from ....types import ModelInfo, ModelSpec
from .base import Progress, Span
from .llama_cpp import Batch, LlamaCppTokenizer
from .llama_loading import load_model, model_info, prepared

_LONGEST = 2048  # tokens of a text where `n_ctx` does not say: attention to all of them at once takes memory


class LlamaEmbedder:
    """One embedding model in this process. Used by one thread."""

    def __init__(self, model: Any, info: ModelInfo, n_threads: int) -> None:
        slots = info.max_slots
        # A multiple: llama.cpp ends the process where it cannot share it evenly.
        self._room = -(-info.n_ctx // slots) * slots
        self._batch = Batch(self._room)
        self.info = info
        self.tokenizer = LlamaCppTokenizer(model)
        params = llama_cpp.llama_context_default_params()
        params.embeddings = True
        params.kv_unified = True  # the texts of a batch share the room
        # An encoder sees a text at once or not at all.
        params.n_ctx = params.n_batch = params.n_ubatch = self._room
        params.n_seq_max = slots
        params.n_threads = params.n_threads_batch = n_threads
        params.no_perf = True
        self._context = llama_cpp.llama_init_from_model(model, params)
        if not self._context:
            raise DoesNotFitError(
                f"llama.cpp has no memory for '{info.name}' with texts of {info.n_ctx} tokens",
                hint="lower backend.n_ctx, or unload another model",
            )
        self._memory = llama_cpp.llama_get_memory(self._context)  # an encoder has none
        self._width = llama_cpp.llama_model_n_embd_out(model)

    @classmethod
    def load(cls, spec: ModelSpec, progress: Progress) -> LlamaEmbedder:
        """See `ModelRunner.load`."""
        found, notes, options = prepared(spec), list[str](), spec.options
        model, on_gpu = load_model(spec, found.path, progress, notes)
        n_ctx = min(options.get("n_ctx") or _LONGEST, llama_cpp.llama_model_n_ctx_train(model))
        info = model_info(spec, model, found, n_ctx, options.get("max_slots", 16), on_gpu, notes)
        return cls(model, info, options.get("n_threads") or usable_cores())

    def fits(self, texts: Sequence[Sequence[int]]) -> int:
        """How many of the first texts make a batch."""
        left = self._room
        for count, text in enumerate(texts[: self.info.max_slots]):
            left -= len(text)
            if left < 0:
                return count
        return min(len(texts), self.info.max_slots)

    def embed(self, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        """The vectors, of length 1, of a batch of tokenized texts."""
        self._batch.fill([Span(slot, text, 0, len(text)) for slot, text in enumerate(texts)])
        if self._memory:
            llama_cpp.llama_memory_clear(self._memory, True)
        run = llama_cpp.llama_decode if self._memory else llama_cpp.llama_encode
        if code := run(self._context, self._batch.struct):
            raise EngineError(f"llama.cpp could not embed this: it returned {code}")
        return [self._vector(slot) for slot in range(len(texts))]

    def _vector(self, slot: int) -> list[float]:
        pooled = llama_cpp.llama_get_embeddings_seq(self._context, slot)
        if not pooled:
            raise EngineError("llama.cpp gave no vector for a text")
        vector = np.ctypeslib.as_array(pooled, (self._width,)).astype(np.float64)
        if not np.isfinite(vector).all():
            raise EngineError(
                "a vector holds NaN or infinity: the model file is damaged, or its type too narrow"
            )
        found: list[float] = (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32).tolist()
        return found
