"""The common part of every route that asks a model: from a valid request to the bytes of its response."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from litestar import Request, Response
from litestar.types import ASGIApp, Receive, Scope, Send

from ...openai_api.exchange import Exchange
from ...openai_api.sse import encode_json
from ...types import Chunk, GenerationRequest, Usage
from ..errors import as_known
from ..route import about
from ..state import state_of
from ..watch.observe import ServedRequest
from .event_writer import EVENTS, EventWriter, Framing, version_header
from .generation import Generation, generation

T = TypeVar("T")
log = logging.getLogger(__name__)


class Events(Protocol):
    """The form of answers as events."""

    def chunks(self, index: int, chunks: list[Chunk]) -> bytes:
        """The events for some chunks of answer `index`; may be empty."""

    def end(self, usage: Usage) -> bytes:
        """The last events."""

    def failed(self, error: Exception) -> bytes:
        """The event for an error in mid-stream."""


@dataclass(frozen=True)
class Streamed:
    """An answer that is sent while it is generated.

    Attributes:
        per_prompt: consecutive requests that have the same prompt; None: all of them.
    """

    requests: Sequence[GenerationRequest]
    events: Events
    per_prompt: int | None = None


class Answer(Response[T]):
    """A response that is generated while it is sent. `T` documents the body of a non-streaming one."""

    def __init__(self, send: Callable[[Receive, Send], Awaitable[None]]) -> None:
        super().__init__(content=None)  # type: ignore[arg-type]
        self._sender = send

    def to_asgi_response(self, *args: Any, **kwargs: Any) -> ASGIApp:  # type: ignore[override]
        """The ASGI application that answers."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await self._sender(receive, send)

        return app


def answer(
    request: Request[Any, Any, Any],
    make: Callable[[Generation], Awaitable[T | Streamed]],
    *,
    model: str,
    keep_alive_s: float | None,
    n: int = 1,
    stream: bool = False,
    session: str = "",
    during: contextlib.AbstractContextManager[Any] | None = None,
    framing: Framing = EVENTS,
) -> Answer[T]:
    """The response to a request that asks a model.

    Args:
        make: the answer, with the model that is held for it: a body that is sent as JSON, or what is streamed.
        keep_alive_s: how long the model stays loaded afterwards; None leaves that to the server.
        n: answers asked for.
        stream: whether `make` gives what is streamed; for the metrics.
        session: requests of one session are answered by the same version.
        during: entered before the model is asked for, left once all is sent.
        framing: how what is streamed looks.
    """
    state = state_of(request)
    served = ServedRequest(about(request.route_handler).path, model, stream, n, request.scope)
    served.session = session
    request.scope["state"]["served"] = served  # for the access log

    async def send_made(receive: Receive, send: Send, writer: EventWriter) -> None:
        with during or contextlib.nullcontext():
            held = generation(state.pool, state.traffic, state.observer, served, receive, keep_alive_s)
            async with held as current:
                writer.version = served.version
                made = await make(current)
                if isinstance(made, Streamed):
                    await _send_events(current, made, writer)
                else:
                    await _send_json(current, made, send)

    async def send_answer(receive: Receive, send: Send) -> None:
        writer = EventWriter(send, framing)
        try:
            async with writer.kept_alive(state.config.keepalive_s if stream else None):
                await send_made(receive, send, writer)
        except Exception as error:
            if not writer.started:
                raise
            # A keep-alive comment was sent with the head, so the status cannot be changed any more.
            if as_known(error) is not error:
                log.error("%s failed", served.route, exc_info=error)
            await writer.end(framing.frame(state.errors.body(error, request.scope["path"])))

    return Answer(send_answer)


def answer_exchange(request: Request[Any, Any, Any], exchange: Exchange) -> Answer[Any]:
    """The response to a chat completion or a completion, streaming or not."""

    async def make(current: Generation) -> Any:
        exchange.fingerprint = current.request.version or None
        await exchange.prepare(current.engine, current.model.token_texts)
        if exchange.stream:
            return Streamed(exchange.requests, exchange.events(), exchange.n)
        completions = await current.complete(exchange.requests, per_prompt=exchange.n)
        return exchange.answer(completions, current.usage)

    return answer(
        request,
        make,
        model=exchange.model,
        keep_alive_s=exchange.keep_alive_s,
        n=exchange.n_choices,
        stream=exchange.stream,
    )


async def _send_json(current: Generation, body: Any, send: Any) -> None:
    """A complete response with status 200."""
    data = encode_json(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    headers += version_header(current.request.version)
    current.done = True
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": data, "more_body": False})


async def _send_events(current: Generation, streamed: Streamed, writer: EventWriter) -> None:
    """Stream the answers. An error before the head is sent is raised. A later one is sent as the last event."""
    events = streamed.events
    chunks = current.chunks(streamed.requests, per_prompt=streamed.per_prompt)
    try:
        async with contextlib.aclosing(chunks) as answers:
            async for index, new in answers:
                if data := events.chunks(index, new):
                    await writer.write(data)
    except Exception as error:
        if not writer.started:
            raise
        current.request.error = as_known(error)
        current.request.status = current.request.error.status
        last = events.failed(error)
    else:
        last = events.end(current.usage)
    current.done = True
    await writer.end(last)
