"""Limits of a client, and the end of requests that take too long or run during the shutdown.

Only POST requests are counted, so that reading the metrics or a list of models is never refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ...config import LimitsConfig
from ...errors import (
    InvalidRequestError,
    LqmfError,
    RequestTimeoutError,
    TooLargeError,
    TooManyRequestsError,
    UnavailableError,
)
from ...openai_api.sse import event
from ..asgi import App, Message, Receive, Scope, Send, header
from ..errors import ErrorShapes
from ..state import Lifecycle
from .encoding import encoding_of, inflated

STATUS_PATHS = ("/health", "/ready")
_PAGE = "/ui"
_UPLOADS = f"{_PAGE}/gradio_api/upload"
_MOST_CLIENTS, _SWEEP_S = 10_000, 1.0


@dataclass
class _Client:
    tokens: float
    at: float
    running: int = 0


class ClientQuota:
    """A token bucket and a count of running requests for each client: a key, or an address where there are no keys."""

    def __init__(self, limits: LimitsConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._rate = (limits.requests_per_minute or 0.0) / 60
        self._burst = float(limits.burst or max(1.0, self._rate * 6))
        self._clients: dict[str, _Client] = {}
        self._swept_at = -_SWEEP_S

    @contextlib.contextmanager
    def admit(self, client: str) -> Iterator[None]:
        """Count a request of the client while it runs.

        Raises:
            TooManyRequestsError: it has none left; `retry_after_s` says when it may have one.
        """
        known = self._known(client)
        most = self._limits.concurrent
        if most is not None and known.running >= most:
            raise TooManyRequestsError(
                f"this client has {known.running} requests running, of {most} allowed",
                hint="wait until one of them has ended",
            )
        if self._rate:
            if known.tokens < 1:
                raise TooManyRequestsError(
                    f"this client sends more than {self._limits.requests_per_minute:g} requests a minute",
                    hint="wait as long as Retry-After says",
                    retry_after_s=(1 - known.tokens) / self._rate,
                )
            known.tokens -= 1
        known.running += 1
        try:
            yield
        finally:
            known.running -= 1

    def _known(self, client: str) -> _Client:
        now = self._clock()
        known = self._clients.get(client)
        if known is None:
            if len(self._clients) >= _MOST_CLIENTS and now - self._swept_at >= _SWEEP_S:
                self._swept_at = now
                self._forget_idle(now)
            known = self._clients[client] = _Client(self._burst, now)
        self._refill(known, now)
        return known

    def _refill(self, client: _Client, now: float) -> None:
        client.tokens = min(self._burst, client.tokens + (now - client.at) * self._rate)
        client.at = now

    def _forget_idle(self, now: float) -> None:
        """Drop clients with a full bucket and nothing running: they are like unknown ones."""
        for name, client in list(self._clients.items()):
            self._refill(client, now)
            if client.running == 0 and client.tokens >= self._burst:
                del self._clients[name]


class Limits:
    """The middleware: refuses while draining, keeps the quotas, and ends what takes longer than `timeout_s`."""

    def __init__(
        self,
        app: App,
        *,
        lifecycle: Lifecycle,
        errors: ErrorShapes,
        quota: ClientQuota | None = None,
        timeout_s: float | None = None,
        max_body_bytes: int = 10_000_000,
    ) -> None:
        self._app = app
        self._lifecycle = lifecycle
        self._errors = errors
        self._quota = quota or ClientQuota(LimitsConfig())
        self._timeout_s = timeout_s
        self._max_body = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in STATUS_PATHS:
            await self._app(scope, receive, send)
            return
        if scope["path"] == _PAGE or scope["path"].startswith(f"{_PAGE}/"):
            # Its streams stay open as long as the page. Its requests to the server are counted at their own routes.
            await self._page(scope, receive, send)
            return
        response = _Response(scope, send, self._errors)
        try:
            if self._lifecycle.draining:
                raise _StoppingError
            self._check_length(scope)
            if scope["method"] == "POST":
                with self._quota.admit(_client(scope)):
                    await self._answer(scope, receive, response)
            else:
                await self._answer(scope, receive, response)
        except LqmfError as error:
            await response.fail(error)

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The web page: bodies are limited, except for files, whose size the page limits itself."""
        response = _Response(scope, send, self._errors)
        try:
            if scope["path"].startswith(_UPLOADS):
                await self._app(scope, receive, send)
                return
            self._check_length(scope)
            await self._app(scope, self._limited(receive), response.send)
        except LqmfError as error:
            await response.fail(error)

    async def _answer(self, scope: Scope, receive: Receive, response: _Response) -> None:
        deadline = asyncio.timeout(self._timeout_s)
        deadlines = self._lifecycle.deadlines
        deadlines[deadline] = RequestTimeoutError(
            f"the request took longer than {self._timeout_s} s",
            hint="ask for fewer tokens, or stream the answer",
        )
        try:
            packed = encoding_of(scope)
            body = inflated(self._limited(receive), most=self._max_body) if packed else receive
            async with deadline:
                await self._app(scope, self._limited(body), response.send)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise deadlines[deadline] from None
        finally:
            del deadlines[deadline]

    def _check_length(self, scope: Scope) -> None:
        length = header(scope, b"content-length")
        if length is not None and length.isdigit() and int(length) > self._max_body:
            raise self._too_large()

    def _limited(self, receive: Receive) -> Receive:
        """The body as it arrives, up to the limit. A chunked body does not declare its length."""
        received, complete = 0, False

        async def receive_limited() -> Message:
            nonlocal received, complete
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if received > self._max_body:
                    raise self._too_large()
            elif not complete:
                raise InvalidRequestError("the connection ended before the request's body was complete")
            return message

        return receive_limited

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"the request's body is larger than {self._max_body / 1e6:g} MB",
            hint="server.max_body_mb sets the limit",
        )


class _StoppingError(UnavailableError):
    headers = {"connection": "close"}  # noqa: RUF012 (a constant)

    def __init__(self) -> None:
        super().__init__("the server is stopping", hint="send the request again once it is back")


class _Response:
    """A response in progress. It knows how an error can still be reported to the client."""

    def __init__(self, scope: Scope, send: Send, errors: ErrorShapes) -> None:
        self._errors = errors
        self._scope = scope
        self._send = send
        self._started = False
        self._stream = False
        self._ended = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self._ended = not message.get("more_body", False)
        else:
            self._started = True
            self._stream = any(
                name == b"content-type" and value.startswith(b"text/event-stream")
                for name, value in message.get("headers", ())
            )
        await self._send(message)

    async def fail(self, error: LqmfError) -> None:
        """Report the error as the response or as the last event of a stream. Otherwise the connection breaks off."""
        if not self._started:
            await self._errors.send(error, self._scope, self._send)
        elif self._ended:
            return
        elif self._stream:
            body = event(self._errors.body(error, self._scope["path"]))
            await self._send({"type": "http.response.body", "body": body})
        else:
            raise error


def _client(scope: Scope) -> str:
    key = scope.get("state", {}).get("api_key")
    if key is not None:
        return f"key {key.name}"
    return str((scope.get("client") or ("?",))[0])
