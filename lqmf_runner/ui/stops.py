"""Ends answers that are under way on a page, at the visitor's wish.

Gradio's own `cancels` ends the event from outside, whatever it does. Here an answer is told to end, and ends by itself,
with what it shows last.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import gradio as gr


class Stop(asyncio.Event):
    """An answer has to end when it is set.

    Attributes:
        forgets: the conversation is to be forgotten. The answer shows this last: Gradio sends the last of what a
            generator shows twice, the second time when it has ended, and perhaps after what other events show.
        ended: nothing more of the answer is shown.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forgets = False
        self.ended = asyncio.Event()


class Stops:
    """The answers of one tab that are under way, by the open page that asked for them."""

    def __init__(self) -> None:
        self._answers: dict[str | None, list[Stop]] = {}

    @contextlib.contextmanager
    def answering(self, visitor: gr.Request) -> Iterator[Stop]:
        """While an answer is shown."""
        page, stop = visitor.session_hash, Stop()
        self._answers.setdefault(page, []).append(stop)
        try:
            yield stop
        finally:
            stop.ended.set()
            self._answers[page].remove(stop)
            if not self._answers[page]:
                del self._answers[page]

    async def end(self, visitor: gr.Request) -> None:
        """End the answers of the visitor's page, and wait until they have ended."""
        await self._end(visitor, forget=False)

    async def forget(self, visitor: gr.Request) -> None:
        """The same, where what they belong to is to be forgotten."""
        await self._end(visitor, forget=True)

    async def _end(self, visitor: gr.Request, *, forget: bool) -> None:
        there = list(self._answers.get(visitor.session_hash, ()))
        for stop in there:
            stop.forgets |= forget
            stop.set()
        for stop in there:
            await stop.ended.wait()
