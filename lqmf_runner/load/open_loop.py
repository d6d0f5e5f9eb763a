"""Open loops: requests arrive when they are due, independent of the duration of earlier answers.

A closed loop slows down with the engine and so never shows how long users would wait (coordinated omission, Tene
2013). Here every request is sent at its time, and its TTFT and E2E count from then on.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..errors import UserInputError
from ..results.schema import Shape
from .base import Send
from .conversations import Conversation


@dataclass(frozen=True)
class OpenLoop:
    """Conversations arrive at `rate` a second; the later turns of one follow as soon as its last answer is there.

    Attributes:
        arrival: "poisson" (independent users: exponential gaps), "constant" (evenly spaced) or "burst" (`burst` at
            once, the bursts evenly spaced).
        seed: of the Poisson process.
        duration_s: nothing arrives from then on.
        kind: what the load is called, where it is part of something larger.

    Raises:
        UserInputError: the rate or the size of a burst is not positive.
    """

    rate: float
    arrival: str = "poisson"
    burst: int = 8
    seed: int = 0
    duration_s: float | None = None
    kind: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.rate < float("inf"):
            raise UserInputError(
                f"mode.rate={self.rate:g} is not a rate", hint="give requests per second, more than 0"
            )
        if self.burst < 1:
            raise UserInputError(f"mode.burst={self.burst} is too small", hint="it must be at least 1")

    @property
    def key(self) -> str:
        """Kind and rate, e.g. "poisson2.5"."""
        return f"{self.shape.kind}{self.rate:g}"

    @property
    def shape(self) -> Shape:
        """The kind is that of the arrivals unless another is given."""
        kind = self.kind or self.arrival
        return Shape(kind=kind, rate=self.rate, burst=self.burst if kind == "burst" else None)

    def arrivals(self) -> Iterator[float]:
        """When requests are due, in seconds from the start of the load; without end unless there is a duration."""
        until = float("inf") if self.duration_s is None else self.duration_s
        return itertools.takewhile(lambda due: due < until, self._endless())

    def _endless(self) -> Iterator[float]:
        if self.arrival == "poisson":
            gap = random.Random(self.seed).expovariate
            yield from itertools.accumulate(gap(self.rate) for _ in itertools.count())
        size = self.burst if self.arrival == "burst" else 1
        for number in itertools.count():
            yield (number // size) * size / self.rate

    async def drive(
        self, conversations: Iterator[Conversation], send: Send, elapsed: Callable[[], float]
    ) -> None:
        """Send each conversation when it is due, and wait for all of them at the end."""
        async with asyncio.TaskGroup() as tasks:
            # Conversations first: zip must not wait for an arrival after the last conversation.
            for number, (conversation, due) in enumerate(zip(conversations, self.arrivals(), strict=False)):
                if (wait := due - elapsed()) > 0:
                    await asyncio.sleep(wait)
                tasks.create_task(send(conversation, number, due))
