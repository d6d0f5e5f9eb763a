"""`Connection`: the front's end of a worker's stream socket, for any kind of socket."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar, cast

import msgspec

from ..errors import InvalidRequestError, LqmfError
from ..types import Chunk, GenerationRequest, ModelInfo, PromptCacheUse
from . import protocol
from .protocol import Cancel, Delta, Failed, Generate, Loaded, Loading, PromptCacheChanged, Reply

T = TypeVar("T")


class Connection(asyncio.Protocol):
    """Sends commands to one worker and passes its events to the requests that they answer.

    Args:
        on_closed: called once if the worker closes the connection. It may then `refuse`, and must `end`.
        on_progress: takes the share of the load that is done.

    Attributes:
        loaded: what the worker says of the model when it is loaded, or why it is not.
        prompt_cache: what the worker last said of the prompts that it keeps in main memory.
        heard: whether anything has arrived since somebody set this to False.
    """

    def __init__(
        self, on_closed: Callable[[], None], on_progress: Callable[[float], None] | None = None
    ) -> None:
        self._on_closed = on_closed
        self._on_progress = on_progress
        self._ids = itertools.count(1)
        self._answers: dict[int, _Answer] = {}
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._error: LqmfError | None = None
        self.loaded: asyncio.Future[ModelInfo] = self._loop.create_future()
        self.prompt_cache = PromptCacheUse()
        self.heard = False
        self.transport: asyncio.Transport | None = None

    @property
    def alive(self) -> bool:
        """Whether commands can be sent."""
        return self._error is None

    async def stream(self, request: GenerationRequest, whole: bool) -> AsyncGenerator[list[Chunk], None]:
        """The answer to a request; see `EngineClient.stream`."""
        request_id = next(self._ids)
        answer = self._answers[request_id] = _Answer(self._loop)
        finished = False
        try:
            self.send(Generate(request_id, request, whole))
            while not finished:
                chunks = await answer.take()
                finished = chunks[-1].finish_reason is not None
                yield chunks
        finally:
            del self._answers[request_id]
            if not finished and answer.error is None and self.alive:
                self.send(Cancel(request_id))

    async def ask(self, command: Callable[[int], protocol.Command], kind: type[T]) -> T:
        """The reply to the command that `command` makes from an id."""
        request_id = next(self._ids)
        reply = self._replies[request_id] = self._loop.create_future()
        try:
            self.send(command(request_id))
            return msgspec.convert(await reply, kind, strict=False)
        finally:
            del self._replies[request_id]
            if reply.cancelled() and self.alive:
                self.send(Cancel(request_id))

    def send(self, command: protocol.Command) -> None:
        """Send a command without waiting.

        Raises:
            InvalidRequestError: it holds a value that cannot be sent.
            LqmfError: the connection has ended with this.
        """
        if self._error is not None:
            raise self._error
        assert self.transport is not None
        try:
            frame = protocol.frame([command])
        except (OverflowError, TypeError, UnicodeEncodeError) as error:
            raise InvalidRequestError(f"the request holds a value that cannot be sent: {error}") from None
        self.transport.write(frame)

    def refuse(self, error: LqmfError) -> None:
        """Raise `error` from now on when something is sent. Pending requests keep waiting."""
        self._error = error

    def end(self, error: LqmfError) -> None:
        """Fail all pending requests with `error`, and close the connection."""
        if self._error is None:
            self._error = error
        if not self.loaded.done():
            self.loaded.set_exception(error)
            self.loaded.exception()  # marks it as seen: nobody may be waiting for it
        for request_id in [*self._answers, *self._replies]:
            self._fail(request_id, error)
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's have its methods and another base

    def data_received(self, data: bytes) -> None:
        """Cut the byte stream into frames."""
        self.heard = True
        buffer, header = self._buffer, protocol.HEADER
        buffer += data
        at = 0
        while len(buffer) - at >= header.size:
            (size,) = header.unpack_from(buffer, at)
            end = at + header.size + size
            if len(buffer) < end:
                break
            with memoryview(buffer)[at + header.size : end] as body:
                events = protocol.event_decoder.decode(body)
            at = end
            self._receive(events)
        del buffer[:at]

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if self.alive:
            self._on_closed()

    def _receive(self, events: list[protocol.Event]) -> None:
        for event in events:
            match event:
                case Delta(id=request_id, chunk=chunk):
                    if answer := self._answers.get(request_id):
                        answer.add(chunk)
                case Reply(id=request_id, value=value):
                    reply = self._replies.get(request_id)
                    if reply is not None and not reply.done():
                        reply.set_result(value)
                case Failed(id=None):
                    if not self.loaded.done():
                        self.loaded.set_exception(protocol.error_from(event))
                case Failed(id=int(request_id)):
                    self._fail(request_id, protocol.error_from(event))
                case Loading(fraction=fraction):
                    if self._on_progress is not None:
                        self._on_progress(fraction)
                case PromptCacheChanged(use=use):
                    self.prompt_cache = use
                case Loaded(info=info):
                    if not self.loaded.done():
                        self.loaded.set_result(info)

    def _fail(self, request_id: int, error: LqmfError) -> None:
        if answer := self._answers.get(request_id):
            answer.fail(error)
        reply = self._replies.get(request_id)
        if reply is not None and not reply.done():
            reply.set_exception(error)


class _Answer:
    """The chunks of an answer that have arrived and have not been read."""

    __slots__ = ("_arrived", "_chunks", "_loop", "error")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._chunks: list[Chunk] = []
        self._arrived: asyncio.Future[None] | None = None
        self.error: LqmfError | None = None

    def add(self, chunk: Chunk) -> None:
        self._chunks.append(chunk)
        self._wake()

    def fail(self, error: LqmfError) -> None:
        self.error = error
        self._wake()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def take(self) -> list[Chunk]:
        """All chunks that are there, at least one. An error comes after the chunks that preceded it."""
        while not self._chunks:
            if self.error is not None:
                raise self.error
            self._arrived = self._loop.create_future()
            await self._arrived
        chunks, self._chunks = self._chunks, []
        return chunks
