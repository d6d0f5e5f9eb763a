"""Closed loops: a fixed number of users, each of whom waits for the answer before the next request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..results.schema import Shape
from .base import Send
from .conversations import Conversation


@dataclass(frozen=True)
class ClosedLoop:
    """`concurrency` users. Each sends its next request when it has the answer to the last.

    After `duration_s` no conversation is begun.
    """

    concurrency: int
    duration_s: float | None = None

    @property
    def key(self) -> str:
        """ "c" and the number of users."""
        return f"c{self.concurrency}"

    @property
    def shape(self) -> Shape:
        """Kind "closed"."""
        return Shape(kind="closed", concurrency=self.concurrency)

    async def drive(
        self, conversations: Iterator[Conversation], send: Send, elapsed: Callable[[], float]
    ) -> None:
        """Let every user take conversations until there are none left, or time is up."""

        async def user(number: int) -> None:
            for conversation in conversations:
                if self.duration_s is not None and elapsed() >= self.duration_s:
                    return
                await send(conversation, number)

        await asyncio.gather(*(user(number) for number in range(self.concurrency)))
