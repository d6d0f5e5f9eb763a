"""Replaces the scheduler in the worker of an embedding model: one request after the other, in batches."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from ...errors import LqmfError, QueueFullError
from ...types import Embeddings, EngineStats
from ..protocol import Cancel, Event, GetStats, Reply, ResetPrefixCache, failure
from .runners.step_watch import StepWatch

if TYPE_CHECKING:
    from .runners.llama_embedding import LlamaEmbedder


@dataclass(slots=True, eq=False)
class EmbeddingState:
    """A request for embeddings while it is in the worker: its tokenized texts, and the vectors so far."""

    id: int
    texts: list[list[int]]
    vectors: list[list[float]] = field(default_factory=list)


class EmbeddingQueue:
    """Runs requests on an embedder. Used by one thread."""

    def __init__(
        self,
        embedder: LlamaEmbedder,
        max_queue: int,
        emit: Callable[[list[Event]], None],
        watch: StepWatch,
    ) -> None:
        self._embedder = embedder
        self._max_queue = max_queue
        self._emit = emit
        self._watch = watch
        self._waiting: deque[EmbeddingState] = deque()
        self._stats = EngineStats()

    def run(self, inbox: queue.SimpleQueue[Any]) -> NoReturn:
        """Run the model while there are requests, one batch at a time, so requests can be cancelled."""
        while True:
            while not (self._waiting and inbox.empty()):
                self._take(inbox.get())
            with self._watch:
                self._step(self._waiting[0])

    def _take(self, item: Any) -> None:
        match item:
            case EmbeddingState():
                if len(self._waiting) > self._max_queue:
                    full = QueueFullError(
                        f"{len(self._waiting)} requests wait already", hint="try again in a few seconds"
                    )
                    self._emit([failure(item.id, full)])
                else:
                    self._waiting.append(item)
            case Cancel(id=request_id):
                self._waiting = deque(state for state in self._waiting if state.id != request_id)
            case GetStats(id=request_id):
                running = min(len(self._waiting), 1)
                self._stats.running, self._stats.waiting = running, len(self._waiting) - running
                self._emit([Reply(request_id, self._stats)])
            case ResetPrefixCache(id=request_id):
                self._emit([Reply(request_id, True)])

    def _step(self, state: EmbeddingState) -> None:
        """Compute one more batch of a request. Sends its answer after the last batch."""
        rest = state.texts[len(state.vectors) :]
        batch = rest[: self._embedder.fits(rest)]
        began = time.perf_counter()
        try:
            state.vectors += self._embedder.embed(batch)
        except LqmfError as error:
            self._waiting.popleft()
            self._emit([failure(state.id, error)])
            return
        self._stats.prefill_s += time.perf_counter() - began
        self._stats.prefill_tokens += sum(map(len, batch))
        if len(batch) == len(rest):
            self._waiting.popleft()
            n_tokens = sum(map(len, state.texts))
            self._stats.requests += 1
            self._stats.prompt_tokens += n_tokens
            self._emit([Reply(state.id, Embeddings(state.vectors, n_tokens))])
