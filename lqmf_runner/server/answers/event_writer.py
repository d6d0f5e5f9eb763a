"""Streams written directly to the ASGI server, as server-sent events or lines: the hot path of streaming."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

from litestar.types import Send

from ...openai_api.sse import event

_HEADERS = [
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # a proxy that buffers events would undo the streaming
]


VERSION_HEADER = b"x-model-version"


@dataclass(frozen=True)
class Framing:
    """The format of a stream.

    Attributes:
        content_type: of the response.
        keepalive: sent into a silent stream; clients ignore it.
        frame: one event, of its JSON value.
    """

    content_type: bytes
    keepalive: bytes
    frame: Callable[[Any], bytes]


EVENTS = Framing(b"text/event-stream; charset=utf-8", b": keep-alive\n\n", event)
"""Server-sent events, which have comments."""


def version_header(version: str) -> list[tuple[bytes, bytes]]:
    """The header with the version that answers; none if it is unknown."""
    return [(VERSION_HEADER, version.encode("ascii", "backslashreplace"))] if version else []


class EventWriter:
    """Sends events on one connection. The response starts with the first of them.

    Attributes:
        framing: how they look.
        version: of the weights that answer, once they are held. A response that had to begin before lacks the header.
    """

    __slots__ = ("_ended", "_send", "_wrote", "framing", "started", "version")

    def __init__(self, send: Send, framing: Framing = EVENTS) -> None:
        self._send: Any = send
        self.framing = framing
        self._wrote = time.perf_counter()
        self._ended = False
        self.started = False
        self.version = ""

    @contextlib.asynccontextmanager
    async def kept_alive(self, every_s: float | None) -> AsyncGenerator[None, None]:
        """Send a keep-alive comment after each such interval of silence, so that proxies keep the connection."""
        if every_s is None:
            yield
            return
        task = asyncio.create_task(self._signs(every_s))
        try:
            yield
        finally:
            task.cancel()

    async def _signs(self, every_s: float) -> None:
        while not self._ended:
            silent = time.perf_counter() - self._wrote
            if silent >= every_s:
                await self.write(self.framing.keepalive)
                silent = 0.0
            await asyncio.sleep(every_s - silent)

    async def write(self, data: bytes) -> None:
        """Send some events now."""
        self._wrote = time.perf_counter()
        if not self.started:
            self.started = True
            content_type = (b"content-type", self.framing.content_type)
            headers = [content_type, *_HEADERS, *version_header(self.version)]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last events and end the response."""
        self._ended = True
        if not self.started:
            await self.write(data)
            data = b""
        await self._send({"type": "http.response.body", "body": data, "more_body": False})
