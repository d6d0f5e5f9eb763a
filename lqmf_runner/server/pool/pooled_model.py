"""One model of the pool: its state, its figures, and the memory it counts for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ...engine import EngineClient
from ...formats import overhead_mb
from ...types import ModelSpec, PromptCacheUse, ReplicaState, Usage
from .catalog import Identity

FIRST_RETRY_S, LONGEST_RETRY_S, STABLE_S = 1.0, 60.0, 60.0
LOADING, READY, RESTARTING = "loading", "ready", "restarting"


@dataclass(eq=False)
class PooledModel:
    """A model that is loaded, being loaded, or to be loaded again after a crash.

    Attributes:
        name: the name it was loaded by; errors and the log call it so.
        aliases: other names of the same weights with the same settings, which answer from this load.
        identity: what two such names have in common, see `catalog.identity`; None shares with nobody.
        size_mb: its weights; with an overhead, what it is taken to need until it is in.
        busy: requests that hold it.
        keep_alive_s: unload it when it was idle for so long; None keeps it.
        used: order of use, for LRU.
        crashes: in a row, without a stable time in between.
        retry_at: the loop's time of the next try after a crash.
        token_texts: of single tokens, as far as they were asked for.
        using: requests that hold each of its engines; more than one while one takes the place of another.
        replaced: engines whose place another has taken, which requests still hold.
        starting_mb: what replicas that are being started are taken to need.
        kept: blocks that hold it in the pool (`ModelPool.keeping`), which may overlap.
        scaling: held while the number of replicas changes.
        wish: the number of replicas that was asked for last.
        replacing: the load of replicas that are to take the place of its one worker.
        following: the task that changes it with the queue.
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
    identity: Identity | None = None
    aliases: list[str] = field(default_factory=list)
    using: Counter[EngineClient] = field(default_factory=Counter)
    replaced: set[EngineClient] = field(default_factory=set)
    starting_mb: float = 0.0
    kept: int = 0
    scaling: asyncio.Lock = field(default_factory=asyncio.Lock)
    wish: int = 0
    replacing: asyncio.Future[EngineClient] | None = None
    following: asyncio.Task[None] | None = None

    @property
    def names(self) -> list[str]:
        """All names that it answers to, its own first."""
        return [self.name, *self.aliases]

    def drop_name(self, name: str) -> None:
        """Remove a name. If it was the model's own, one of the others becomes its own."""
        names = self.names
        names.remove(name)
        self.name, *self.aliases = names

    def set_fraction(self, fraction: float) -> None:
        """So much of the load is done, 0 to 1."""
        self.fraction = fraction

    def crashed(self, now: float) -> float:
        """Record a crash. Returns the seconds to wait before the next try; the first try is immediate."""
        stable = self.state == READY and now - self.ready_at > STABLE_S
        self.crashes = 1 if stable else self.crashes + 1
        self.state, self.fraction, self.memory_mb = RESTARTING, 0.0, 0.0
        wait = 0.0 if self.crashes == 1 else min(FIRST_RETRY_S * 2 ** (self.crashes - 2), LONGEST_RETRY_S)
        self.retry_at = now + wait
        return wait

    @contextlib.contextmanager
    def used_by_request(self, engine: EngineClient, close: Callable[[], object]) -> Iterator[None]:
        """Count a request of an engine. One that was replaced is closed after the last of them."""
        self.using[engine] += 1
        try:
            yield
        finally:
            self.using[engine] -= 1
            if not self.using[engine]:
                del self.using[engine]
                if engine in self.replaced:
                    self.replaced.remove(engine)
                    close()

    @property
    def needs_mb(self) -> float:
        """The memory it counts for: measured, or estimated until it is loaded."""
        if self.memory_mb:
            return self.memory_mb + self.starting_mb
        return (self.size_mb * 1.1 + overhead_mb(self.spec.format)) * self.spec.placement.replicas

    @property
    def replicas(self) -> list[ReplicaState]:
        """The engines that its requests are spread over; none where it is one engine."""
        return self.engine.replicas() if self.engine is not None else []

    @property
    def shown_state(self) -> str:
        """The state for users: "restarting" also if none of its replicas answers."""
        replicas = self.replicas
        lost = replicas and not any(replica.state == READY for replica in replicas)
        return RESTARTING if self.state == READY and lost else self.state

    @property
    def prompt_cache(self) -> PromptCacheUse:
        """The prompts that its engine keeps in main memory, which are a part of `needs_mb`."""
        return self.engine.prompt_cache if self.engine else PromptCacheUse()

    @property
    def placed(self) -> bool:
        """Whether it is on the nodes of a cluster, which count what it uses there."""
        return self.spec.placement.cluster is not None

    @property
    def is_here(self) -> bool:
        """Whether its memory is this machine's: a cluster without an address is one on this machine."""
        cluster = self.spec.placement.cluster
        return cluster is None or cluster.address is None

    @property
    def lasting_mb(self) -> float:
        """What it counts for on this machine, without those prompts, which give way to a model."""
        return max(self.needs_mb - self.prompt_cache.mb, 0.0) if self.is_here else 0.0

    @property
    def evictable(self) -> bool:
        """Whether it may be evicted: it is loaded, not busy, not pinned, and no block keeps it."""
        return self.state == READY and not self.busy and not self.pinned and not self.kept

    @property
    def tokens_per_second(self) -> float:
        """Tokens after the first by the time they took, over all requests."""
        return self.decode_tokens / self.decode_s if self.decode_s else 0.0

    def want(self, count: int) -> None:
        """Take the number of replicas that is asked for now. A load for another number is given up."""
        if self.replacing is not None and count != self.wish:
            self.replacing.cancel()
            self.replacing = None  # once: it is ending its workers now
        self.wish = count

    async def measure(self, engine: EngineClient) -> None:
        """Take what its engine uses now."""
        use = await engine.memory()
        self.memory_mb = use.rss_mb + use.gpu_mb

    def keep(self, keep_alive_s: float | None) -> None:
        """Set how long it is kept when idle. Negative: for ever. None: unchanged."""
        if keep_alive_s is not None:
            self.keep_alive_s = keep_alive_s if keep_alive_s >= 0 else None

    def count(self, usage: Usage) -> None:
        """Add a finished request to the figures."""
        self.decode_tokens += max(0, usage.completion_tokens - 1)
        self.decode_s += usage.decode_s


@dataclass(frozen=True)
class LoadedName:
    """A name that a loaded model answers to. The memory counts for the model's own name, so that sums are right."""

    name: str
    model: PooledModel

    @property
    def state(self) -> str:
        """The model's."""
        return self.model.shown_state

    @property
    def replicas(self) -> list[ReplicaState]:
        """The model's; none for an alias, so that sums are right."""
        return [] if self.same_as else self.model.replicas

    @property
    def memory_mb(self) -> float:
        """The model's; 0 for an alias."""
        return 0.0 if self.same_as else self.model.memory_mb

    @property
    def prompt_cache(self) -> PromptCacheUse:
        """The model's; nothing for an alias."""
        return PromptCacheUse() if self.same_as else self.model.prompt_cache

    @property
    def same_as(self) -> str | None:
        """The model's own name, if this is another one."""
        return None if self.name == self.model.name else self.model.name
