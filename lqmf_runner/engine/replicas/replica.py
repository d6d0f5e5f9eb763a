"""One engine of several: its state, and what it has to do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ...types import Chunk, EngineStats, MemoryUse, ReplicaState
from ..client import EngineClient
from .held import HeldPrompts
from .policy import Candidate, slowness
from .prompts import BLOCK_TOKENS, Prompt

STARTING, READY, WAITING, DRAINING = "starting", "ready", "waiting", "draining"
STABLE_S = 10.0
"""A replica that was ready for so long, and for longer than it took to start, is started again at once."""
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
_REST_S = 1.0  # of a busy endpoint that does not say when to try again
# More than its slots hold: what the engine has forgotten costs nothing, what we forget does.
_HELD_PER_SLOT = 8
_PACE_S = 30.0  # how long a measured pace is believed; a slow replica that gets nothing is then tried again
_NEW = 0.3  # weight of the last request in a pace


class Load:
    """What an engine has to do.

    Attributes:
        work: tokens that it still has to compute.
        running: requests that it has; `idle` is set while there are none.
        active_at: the loop's time of its last token, or of the first request after it was idle.
    """

    def __init__(self) -> None:
        self.work = 0.0
        self.running = 0
        self.active_at = 0.0
        self.idle = asyncio.Event()
        self.idle.set()


class Replica:
    """An engine, or the place of one that is being started.

    Attributes:
        number: from 0; it stays the same when the engine is started again.
        place: where it runs, for people.
        load: of the present engine.
        losses: in a row, without a stable time in between.
        retry_at: the loop's time of the next try to start it.
        start, end: the tasks of its last start and of its end, which may be done.
        rests_until: the loop's time until which others are preferred, because it was busy.
        gone: counters of its engines before the present one, as far as they were read.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.place = ""
        self.state = STARTING
        self.engine: EngineClient | None = None
        self.load = Load()
        self._earlier: list[Load] = []  # of engines that were given up and may still answer
        self.held = HeldPrompts(0)
        self.requests = 0
        self.output_tokens = 0
        self.losses = 0
        self.retry_at = 0.0
        self.rests_until = 0.0
        self.memory = MemoryUse()
        self.stats = EngineStats()
        self.gone = EngineStats()
        self.start: asyncio.Task[None] | None = None
        self.end: asyncio.Task[None] | None = None
        self._began_at = self._ready_at = 0.0
        self._pace_s: float | None = None
        self._paced_at = 0.0

    @property
    def work(self) -> float:
        """Tokens that it still has to compute."""
        return self.load.work + sum(load.work for load in self._earlier)

    @property
    def running(self) -> int:
        """Requests that it has."""
        return self.load.running + sum(load.running for load in self._earlier)

    def begin(self, now: float) -> None:
        """An engine is being started."""
        self.state, self._began_at = STARTING, now

    def enter(self, engine: EngineClient, now: float) -> None:
        """The engine is there."""
        self.engine, self.place, self.state = engine, engine.place or "this machine", READY
        # An endpoint that has failed one request may still be computing others.
        self._earlier = [load for load in (*self._earlier, self.load) if load.running]
        self.load = Load()
        self.held = HeldPrompts(_HELD_PER_SLOT * engine.info.max_slots)
        self._ready_at = now
        self.rests_until = 0.0
        self._pace_s = None

    def leave(self, now: float) -> None:
        """The engine is lost."""
        self.engine = None
        self.memory = MemoryUse()
        self.gone, self.stats = added(self.gone, self.stats), EngineStats()
        if now - self._ready_at > max(STABLE_S, self._ready_at - self._began_at):
            self.losses = 0

    def rest(self, now: float, seconds: float | None) -> None:
        """It was busy: others are preferred for as long as it says, or has said before."""
        self.rests_until = max(self.rests_until, now + min(seconds or _REST_S, LONGEST_RETRY_S))

    def delay(self, now: float) -> float:
        """Count a loss. Seconds until the next try: none after the first, then 1, 2, 4 s, and so on."""
        self.losses += 1
        wait = 0.0 if self.losses == 1 else min(FIRST_RETRY_S * 2 ** (self.losses - 2), LONGEST_RETRY_S)
        self.state = WAITING if wait else STARTING
        self.retry_at = now + wait
        return wait

    def pace_s(self, now: float) -> float | None:
        """Seconds of one token of an answer, of late; None where that is not known."""
        return self._pace_s if now - self._paced_at < _PACE_S else None

    def measured(self, pace_s: float, now: float) -> None:
        """Take the pace of an answer that has ended."""
        known = self.pace_s(now)
        self._pace_s = pace_s if known is None else known + _NEW * (pace_s - known)
        self._paced_at = now

    def slowness(self, paces_s: Sequence[float], now: float) -> float:
        """How many times slower than the others it is; see `policy.slowness`."""
        silent = now - self.load.active_at if self.load.running else 0.0
        return slowness(self.pace_s(now), paces_s, silent)

    def candidate(self, prompt: Prompt, paces_s: Sequence[float], now: float) -> Candidate:
        """As the policy sees it, beside replicas with these paces."""
        return Candidate(
            work=self.work,
            held=self.held.matched(prompt.blocks) * BLOCK_TOKENS,
            slowness=self.slowness(paces_s, now),
            prompts=len(self.held),
            requests=self.requests,
        )

    def report(self, paces_s: Sequence[float], now: float) -> ReplicaState:
        """As the API shows it, beside replicas with these paces."""
        return ReplicaState(
            number=self.number,
            state=self.state,
            place=self.place,
            running=self.running,
            work_tokens=round(self.work),
            requests=self.requests,
            output_tokens=self.output_tokens,
            losses=self.losses,
            slow=self.state == READY and self.slowness(paces_s, now) > 1,
            memory_mb=round(self.memory.rss_mb + self.memory.gpu_mb, 1),
        )


class Work:
    """One request at a replica, from the choice to its end. It is a context."""

    __slots__ = ("_first_at", "_last_at", "_load", "_loop", "_n", "_output", "_prompt", "_replica")

    def __init__(self, replica: Replica, prompt: Prompt, held: int, loop: asyncio.AbstractEventLoop) -> None:
        self._replica = replica
        self._load = replica.load
        self._loop = loop
        self._prompt = max(prompt.tokens - held, 0)
        self._output = prompt.output_tokens
        self._n = 0
        self._first_at = self._last_at = 0.0

    def __enter__(self) -> Work:
        load = self._load
        if not load.running:
            load.active_at = self._loop.time()
            load.idle.clear()
        load.running += 1
        load.work += self._prompt + self._output
        self._replica.requests += 1
        return self

    def advance(self, chunks: Sequence[Chunk]) -> None:
        """Chunks have come."""
        load, now = self._load, self._loop.time()
        load.active_at = self._last_at = now
        if not self._first_at:
            self._first_at = now
            load.work -= self._prompt
            self._prompt = 0
        n = 0
        for chunk in chunks:  # an endpoint tells no token ids, and a piece of its text is about one
            n += len(chunk.token_ids) or bool(chunk.text or chunk.reasoning)
        self._n += n
        done = min(n, self._output)
        self._output -= done
        load.work -= done
        self._replica.output_tokens += n

    def __exit__(self, *error: object) -> None:
        load = self._load
        load.running -= 1
        load.work -= self._prompt + self._output
        if not load.running:
            load.idle.set()
        if self._n > 1 and self._last_at > self._first_at:
            self._replica.measured((self._last_at - self._first_at) / (self._n - 1), self._loop.time())


def added(one: EngineStats, other: EngineStats) -> EngineStats:
    """The counters of both."""
    fields = EngineStats.__struct_fields__
    return EngineStats(**{name: getattr(one, name) + getattr(other, name) for name in fields})


def known_paces(replicas: Sequence[Replica], now: float) -> list[float]:
    """The paces of those replicas whose pace is known, in order."""
    return sorted(pace for replica in replicas if (pace := replica.pace_s(now)))
