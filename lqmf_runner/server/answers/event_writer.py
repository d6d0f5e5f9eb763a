"""Server-sent events written straight to the ASGI server: the hot path of streaming."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from typing import Any

from litestar.types import Send

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # a proxy that buffers events would undo the streaming
]


_SIGN_OF_LIFE = b": keep-alive\n\n"  # a comment, which clients skip


class EventWriter:
    """Sends events on one connection. The response starts with the first of them."""

    __slots__ = ("_ended", "_send", "_wrote", "started")

    def __init__(self, send: Send) -> None:
        self._send: Any = send
        self._wrote = time.perf_counter()
        self._ended = False
        self.started = False

    @contextlib.asynccontextmanager
    async def kept_alive(self, every_s: float | None) -> AsyncGenerator[None, None]:
        """Send a comment whenever nothing else was sent for so long, so that proxies keep the connection."""
        if every_s is None:
            yield
            return
        task = asyncio.create_task(self._comment(every_s))
        try:
            yield
        finally:
            task.cancel()

    async def _comment(self, every_s: float) -> None:
        while not self._ended:
            silent = time.perf_counter() - self._wrote
            if silent >= every_s:
                await self.write(_SIGN_OF_LIFE)
                silent = 0.0
            await asyncio.sleep(every_s - silent)

    async def write(self, data: bytes) -> None:
        """Send some events now."""
        self._wrote = time.perf_counter()
        if not self.started:
            self.started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last events and end the response."""
        self._ended = True
        if not self.started:
            await self.write(data)
            data = b""
        await self._send({"type": "http.response.body", "body": data, "more_body": False})
