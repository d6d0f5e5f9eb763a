"""uvicorn's HTTP connection, with limits on what a slow client or a huge request can hold.

httptools limits nothing. It would collect a header of 50 MB in memory, and a client that sends a byte a minute or
reads nothing would keep its connection and its slot in the model for ever. The checks run when bytes arrive and when
buffers fill up, so that they cost nothing per token.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ...config import LimitsConfig
from ..asgi import Headers
from ..errors import ErrorShapes, HttpError
from ..guards.cors import CorsPolicy

_DISCARD_S = 5.0
_DISCARD_BYTES = 64 << 20
_HEAD_FOR_ORIGIN = 4


def limited_protocol(limits: LimitsConfig, errors: ErrorShapes, cors: CorsPolicy) -> type[HttpToolsProtocol]:
    """The protocol class for `uvicorn.Config(http=...)`.

    Args:
        errors, cors: for the answers that are given without the application.
    """
    return type("LimitedProtocol", (_LimitedProtocol,), {"limits": limits, "errors": errors, "cors": cors})


class _LimitedProtocol(HttpToolsProtocol):
    limits: LimitsConfig
    errors: ErrorShapes
    cors: CorsPolicy

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head_bytes = 0
        self._refused = False
        self._discarded = 0
        self._read_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(503, "too_many_connections", "the server has too many connections")
        else:
            self._expect(self.limits.head_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        self._stop_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if (
            self._refused
        ):  # if the connection closed while the client still writes, a reset would lose the answer
            self._discard(data)
            return
        self._head_bytes += len(data)
        super().data_received(data)
        if self._refused or not self._in_head:
            return
        # For CORS the answer needs the Origin, which may come after the header that is too large.
        if self._head_bytes > self.limits.head_bytes * (_HEAD_FOR_ORIGIN if self.cors else 1):
            self._refuse_head()
        elif self._head_bytes and self._read_timer is None:  # the next request of a kept connection
            self._expect(self.limits.head_timeout_s)

    def on_headers_complete(self) -> None:
        self._in_head = False
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.limits.head_bytes:
            self._refuse_head()
            return
        self._expect(self.limits.body_timeout_s)
        super().on_headers_complete()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes += 1  # it may be all there is of a request that follows another in the same packet

    def on_body(self, body: bytes) -> None:
        if self._refused:
            return
        if self.cycle.response_complete:  # refused by the application while the client is still sending
            self._discard(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._refused:  # its connection closes after a while
            return
        self._expect(None)
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_write_timer()
        self._write_timer = self.loop.call_later(self.limits.write_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP (uvicorn calls this)."""
        if not self._refused:
            self._refuse(400, "invalid_request", msg)

    def _discard(self, data: bytes) -> None:
        """Count what nobody reads, up to a limit that a client that waits for its answer stays below."""
        self._discarded += len(data)
        if self._discarded > _DISCARD_BYTES:
            self.transport.abort()

    def _refuse_head(self) -> None:
        limit = self.limits.head_bytes
        self._refuse(431, "headers_too_large", f"the request's headers are larger than {limit} bytes")

    def _expect(self, seconds: float | None) -> None:
        """Limit the time for what the client is sending; None: it is complete."""
        if self._read_timer is not None:
            self._read_timer.cancel()
        self._read_timer = None if seconds is None else self.loop.call_later(seconds, self._read_timed_out)

    def _read_timed_out(self) -> None:
        self._read_timer = None
        if self._in_head and self._head_bytes == 0:
            self.transport.close()
        else:
            self._refuse(408, "request_timeout", "the request took too long to arrive")

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Answer without the application, discard what the client still sends, and close."""
        self._refused = True
        self._expect(None)
        if self.cycle is not None and not self.cycle.response_complete:
            if self.cycle.response_started:
                self.transport.abort()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        error = HttpError(status, detail, code=code)
        body = msgspec.json.encode(self.errors.body(error, self._path()))
        origin = next((value for name, value in self._known_headers() if name == b"origin"), None)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *self.cors.headers(origin),
        ]
        lines = b"".join(b"%s: %s\r\n" % item for item in headers)
        self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + body)
        self.transport.resume_reading()
        self._read_timer = self.loop.call_later(_DISCARD_S, self.transport.close)

    def _path(self) -> str:
        """The path as far as it has arrived. uvicorn sets it when a request begins."""
        return getattr(self, "url", b"").partition(b"?")[0].decode("latin-1")

    def _known_headers(self) -> Headers:
        """The headers that have arrived so far."""
        return getattr(self, "headers", [])
