"""The interface of a load: a `LoadShape` decides when requests are sent and by which user."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from ..results.schema import Shape
from .conversations import Conversation


class Send(Protocol):
    """Sends the turns of a conversation for a user; returns after the last answer.

    `due` is the scheduled start, in seconds from the start of the load. The first turn is timed from then on.
    """

    async def __call__(self, conversation: Conversation, user: int, due: float | None = None) -> None:
        """Never raises because of a request that fails."""


class LoadShape(Protocol):
    """When requests are sent.

    `drive` takes conversations from the iterator and sends each, as the shape wants. `elapsed` tells the seconds since
    the load began. An iterator that ends early means that the engine is lost.
    """

    @property
    def key(self) -> str:
        """Short name of the load in files and metrics, e.g. "c8"."""
        ...

    @property
    def shape(self) -> Shape:
        """The same for `results.json`."""
        ...

    async def drive(
        self, conversations: Iterator[Conversation], send: Send, elapsed: Callable[[], float]
    ) -> None:
        """Send everything and return after the last answer."""
        ...
