"""`LocalEngine`: an `EngineClient` whose model lives in a worker process on this machine."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..errors import EngineLostError, InvalidRequestError, LqmfError
from ..types import (
    Chunk,
    Embeddings,
    EngineStats,
    GenerationRequest,
    MemoryUse,
    ModelInfo,
    ModelSpec,
    NextTokenLogprobs,
    OptionLogprobs,
    Score,
    Window,
    WindowScore,
)
from . import protocol
from .client import EngineClient
from .memory import MemoryMeter
from .options import PreparedOptions
from .protocol import (
    Cancel,
    Delta,
    Detokenize,
    Embed,
    Failed,
    Generate,
    GetStats,
    Load,
    Loaded,
    Loading,
    NextTokens,
    PrepareOptions,
    Reply,
    ResetPrefixCache,
    ScoreTokens,
    ScoreWindow,
    Tokenize,
)

T = TypeVar("T")
_CLOSE_TIMEOUT_S, _EXIT_CODE_TIMEOUT_S = 5.0, 0.5


class LocalEngine(EngineClient):
    """Talks to one worker. Make it with `LocalEngine.start`.

    The worker ends when the socket closes, so it cannot outlive this process however that ends.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Any) -> None:
        self._name = name
        self._process = process
        self._log = log
        self._meter = MemoryMeter(process.pid)
        self._ids = itertools.count(1)
        self._answers: dict[int, _Answer] = {}
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[ModelInfo] = self._loop.create_future()
        self._lost: LqmfError | None = None
        self._closing = False
        self._farewell: asyncio.Task[None] | None = None
        self._transport: asyncio.WriteTransport
        self._on_progress: Callable[[float], None] | None = None

    @classmethod
    async def start(cls, spec: ModelSpec, on_progress: Callable[[float], None] | None = None) -> LocalEngine:
        """Start a worker and load the model; returns when it is ready to answer.

        Raises:
            LqmfError: whatever the load failed with; no process is left.
        """
        ours, theirs = socket.socketpair()
        log = None if os.environ.get("LQMF_DEBUG") == "1" else tempfile.TemporaryFile()  # noqa: SIM115
        with theirs:
            process = subprocess.Popen(  # noqa: ASYNC220 (starting takes about a millisecond)
                [sys.executable, "-m", f"{__package__}.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_worker_environment(spec),
            )
        engine = cls(spec.name, process, log)
        engine._on_progress = on_progress
        try:
            transport, _ = await engine._loop.create_unix_connection(lambda: _FrameReader(engine), sock=ours)
            engine._transport = transport
            engine._send(Load(spec))
            timeout = spec.options.get("load_timeout_s")
            async with asyncio.timeout(timeout):
                engine.info = await engine._loaded
        except BaseException as error:
            await engine.close()
            if isinstance(error, TimeoutError):
                raise EngineLostError(
                    f"'{spec.name}' did not load within {timeout:g} s", hint="raise backend.load_timeout_s"
                ) from None
            raise
        return engine

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the worker still answers."""
        return self._lost is None and not self._closing

    async def stream(
        self, request: GenerationRequest, *, whole: bool = False
    ) -> AsyncGenerator[list[Chunk], None]:
        request_id = next(self._ids)
        answer = self._answers[request_id] = _Answer(self._loop)
        finished = False
        try:
            self._send(Generate(request_id, request, whole))
            while not finished:
                chunks = await answer.take()
                finished = chunks[-1].finish_reason is not None
                yield chunks
        finally:
            del self._answers[request_id]
            if not finished and answer.error is None and self.alive:
                self._send(Cancel(request_id))

    async def score(self, tokens: Sequence[int] | str, *, top: int = 0) -> Score:
        what = tokens if isinstance(tokens, str) else list(tokens)
        return await self._ask(lambda i: ScoreTokens(i, what, top), Score)

    async def score_window(self, window: Window) -> WindowScore:
        return await self._ask(lambda i: ScoreWindow(i, window), WindowScore)

    async def option_logprobs(
        self, request: GenerationRequest, options: Sequence[Sequence[str]]
    ) -> OptionLogprobs:
        forms = [list(option) for option in options]
        prepared = await self._ask(lambda i: PrepareOptions(i, request, forms), PreparedOptions)
        contexts = prepared.contexts()
        answers = await asyncio.gather(*(self._next_tokens(*context) for context in contexts))
        return prepared.combine(contexts, answers)

    async def _next_tokens(self, tokens: list[int], candidates: list[int]) -> NextTokenLogprobs:
        return await self._ask(lambda i: NextTokens(i, tokens, candidates), NextTokenLogprobs)

    async def embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        if not self.info.embeddings:
            return await super().embed(texts)
        inputs = [text if isinstance(text, str) else list(text) for text in texts]
        return await self._ask(lambda i: Embed(i, inputs), Embeddings)

    async def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        return await self._ask(lambda i: Tokenize(i, text, special), list[int])

    async def detokenize(self, tokens: Sequence[int]) -> str:
        return await self._ask(lambda i: Detokenize(i, list(tokens)), str)

    async def stats(self) -> EngineStats:
        return await self._ask(GetStats, EngineStats)

    async def reset_prefix_cache(self) -> bool:
        return await self._ask(ResetPrefixCache, bool)

    async def memory(self) -> MemoryUse:
        return self._meter.read()

    async def close(self) -> None:
        self._closing = True
        self._fail_all(EngineLostError(f"'{self._name}' was unloaded", hint="load it again"))
        if hasattr(self, "_transport"):
            self._transport.abort()
        await asyncio.to_thread(self._end_process)
        if self._log is not None:
            self._log.close()

    def _end_process(self) -> None:
        try:
            self._process.wait(_CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    async def _ask(self, command: Callable[[int], protocol.Command], kind: type[T]) -> T:
        request_id = next(self._ids)
        reply = self._replies[request_id] = self._loop.create_future()
        try:
            self._send(command(request_id))
            return msgspec.convert(await reply, kind, strict=False)
        finally:
            del self._replies[request_id]
            if reply.cancelled() and self.alive:
                self._send(Cancel(request_id))

    def _send(self, command: protocol.Command) -> None:
        if self._lost is not None:
            raise self._lost
        try:
            frame = protocol.frame([command])
        except (OverflowError, TypeError, UnicodeEncodeError) as error:
            raise InvalidRequestError(f"the request holds a value that cannot be sent: {error}") from None
        self._transport.write(frame)

    def receive(self, events: list[protocol.Event]) -> None:
        """Pass events on to their requests (called by the reader)."""
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
                    if not self._loaded.done():
                        self._loaded.set_exception(protocol.error_from(event))
                case Failed(id=int(request_id)):
                    self._fail(request_id, protocol.error_from(event))
                case Loading(fraction=fraction):
                    if self._on_progress is not None:
                        self._on_progress(fraction)
                case Loaded(info=info):
                    if not self._loaded.done():
                        self._loaded.set_result(info)

    def lost(self) -> None:
        """The worker closed the socket: it is dead or dying (called by the reader)."""
        if self._lost is not None or self._closing:
            return
        self._lost = _loss(self._name, None)
        self._farewell = self._loop.create_task(self._report_loss())

    async def _report_loss(self) -> None:
        """Fail all requests, with the exit code, which the kernel has a moment after it has closed the socket."""
        deadline = self._loop.time() + _EXIT_CODE_TIMEOUT_S
        while (code := self._process.poll()) is None and self._loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        if self._closing:
            return
        self._lost = error = _loss(self._name, code, loading=not self._loaded.done())
        self._fail_all(error)
        if self.on_lost is not None:
            self.on_lost(error)

    def _fail(self, request_id: int, error: LqmfError) -> None:
        if answer := self._answers.get(request_id):
            answer.fail(error)
        reply = self._replies.get(request_id)
        if reply is not None and not reply.done():
            reply.set_exception(error)

    def _fail_all(self, error: LqmfError) -> None:
        if self._lost is None:
            self._lost = error
        if not self._loaded.done():
            self._loaded.set_exception(error)
            self._loaded.exception()  # marks it as seen: nobody may be waiting for it
        for request_id in [*self._answers, *self._replies]:
            self._fail(request_id, error)


class _Answer:
    """The chunks of an answer that have arrived and were not read yet."""

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
        """All there is, at least one; an error comes after the chunks that came before it."""
        while not self._chunks:
            if self.error is not None:
                raise self.error
            self._arrived = self._loop.create_future()
            await self._arrived
        chunks, self._chunks = self._chunks, []
        return chunks


class _FrameReader(asyncio.Protocol):
    """Cuts the byte stream into frames."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self._buffer = bytearray()

    def data_received(self, data: bytes) -> None:
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
            self._engine.receive(events)
        del buffer[:at]

    def connection_lost(self, error: Exception | None) -> None:
        self._engine.lost()


def _worker_environment(spec: ModelSpec) -> dict[str, str]:
    threads = str(spec.options.get("n_threads") or len(os.sched_getaffinity(0)))
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        "OMP_NUM_THREADS": threads,
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "GPTQMODEL_CPU_WORKERS": threads,
    }


def _loss(name: str, code: int | None, *, loading: bool = False) -> EngineLostError:
    what = "the files may be damaged" if loading else "its requests failed; load the model again"
    return EngineLostError(
        f"the process of '{name}' ended{' while it loaded' if loading else ''}: {_describe_exit(code)}",
        hint=f"{what} (LQMF_DEBUG=1 shows the worker's own output)",
    )


def _describe_exit(code: int | None) -> str:
    if code is None:
        return "it closed its connection"
    if code == -9:
        return "killed (signal 9), perhaps because the machine ran out of memory"
    if code < 0:
        return f"signal {-code}"
    return f"exit code {code}"
