"""An ASGI application called directly: nothing between the test and the middleware."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lqmf_runner.server.asgi import App, Message, Receive, Scope, Send

HOST = (b"host", b"127.0.0.1:8000")


@dataclass
class Reply:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def scope_of(method: str, path: str, headers: Iterable[tuple[bytes, bytes]] = (HOST,), **more: Any) -> Scope:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": list(headers),
        "client": ("203.0.113.9", 1234),
        "scheme": "http",
        "state": {},
        **more,
    }


async def call(app: App, scope: Scope, body: Iterable[bytes] = (b"",)) -> Reply:
    reply = Reply()
    parts = list(body)

    async def receive() -> Message:
        if not parts:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            assert not reply.status, "a second response was started"
            reply.status = message["status"]
            reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            assert reply.status, "a body came before its response"
            assert not reply.complete, "a body came after its end"
            reply.body += message.get("body", b"")
            reply.complete = not message.get("more_body", False)

    await app(scope, receive, send)
    return reply


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body, and says how long it was."""
    size = 0
    while True:
        message = await receive()
        size += len(message["body"])
        if not message["more_body"]:
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": str(size).encode()})


class Slow:
    """An answer that goes on until the test says so; `stream` sends an event first."""

    def __init__(self, *, stream: bool = False, content_type: bytes = b"text/event-stream") -> None:
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = False
        self._stream = stream
        self._headers = [(b"content-type", content_type)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._stream:
            await send({"type": "http.response.start", "status": 200, "headers": self._headers})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if not self._stream:
            await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": b"end"})
