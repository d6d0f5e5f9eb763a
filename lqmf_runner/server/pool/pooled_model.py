"""One model of the pool: its state, its figures, and the memory it counts for."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from ...engine import EngineClient
from ...formats import overhead_mb
from ...types import ModelSpec, Usage

LOADING, READY, RESTARTING = "loading", "ready", "restarting"


@dataclass(eq=False)
class PooledModel:
    """A model that is loaded, being loaded, or to be loaded again after a crash.

    Attributes:
        size_mb: its weights; with an overhead, what it is taken to need until it is in.
        busy: requests that hold it.
        keep_alive_s: unload it when it was idle for so long; None keeps it.
        used: order of use, for LRU.
        crashes: in a row, without a stable time in between.
        retry_at: the loop's time of the next try after a crash.
        token_texts: of single tokens, as far as they were asked for.
    """

    name: str
    spec: ModelSpec
    size_mb: float
    pinned: bool
    keep_alive_s: float | None
    state: str = LOADING
    fraction: float = 0.0
    engine: EngineClient | None = None
    memory_mb: float = 0.0
    busy: int = 0
    loaded_at: float = 0.0
    ready_at: float = 0.0
    last_used: float = field(default_factory=time.time)
    used: int = 0
    requests: int = 0
    decode_tokens: int = 0
    decode_s: float = 0.0
    crashes: int = 0
    retry_at: float = 0.0
    loading: asyncio.Task[EngineClient] | None = None
    timer: asyncio.TimerHandle | None = None
    token_texts: dict[int, str] = field(default_factory=dict)

    @property
    def needs_mb(self) -> float:
        """The memory it counts for: measured, or estimated until it is loaded."""
        if self.memory_mb:
            return self.memory_mb
        return self.size_mb * 1.1 + overhead_mb(self.spec.format)

    @property
    def evictable(self) -> bool:
        """Whether it may be evicted: it is loaded, not busy and not pinned."""
        return self.state == READY and not self.busy and not self.pinned

    @property
    def tokens_per_second(self) -> float:
        """Tokens after the first by the time they took, over all requests."""
        return self.decode_tokens / self.decode_s if self.decode_s else 0.0

    def keep(self, keep_alive_s: float | None) -> None:
        """Set how long it is kept when idle. Negative: for ever. None: no change."""
        if keep_alive_s is not None:
            self.keep_alive_s = keep_alive_s if keep_alive_s >= 0 else None

    def count(self, usage: Usage) -> None:
        """Add a finished request to the figures."""
        self.decode_tokens += max(0, usage.completion_tokens - 1)
        self.decode_s += usage.decode_s
