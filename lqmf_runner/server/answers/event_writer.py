"""Server-sent events written straight to the ASGI server: the hot path of streaming."""

from __future__ import annotations

from typing import Any

from litestar.types import Send

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # a proxy that buffers events would undo the streaming
]


class EventWriter:
    """Sends events on one connection. The response starts with the first of them."""

    __slots__ = ("_send", "started")

    def __init__(self, send: Send) -> None:
        self._send: Any = send
        self.started = False

    async def write(self, data: bytes) -> None:
        """Send some events now."""
        if not self.started:
            self.started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last events and end the response."""
        if not self.started:
            await self.write(data)
            data = b""
        await self._send({"type": "http.response.body", "body": data, "more_body": False})
