"""The generation of answers: hold the model, run the answers, report them to the observer, stop if the client
leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence

from litestar.types import Receive

from ...engine import EngineClient
from ...openai_api.exchange import total_usage
from ...types import RESTARTED, Chunk, Completion, GenerationRequest, Usage
from ..errors import as_known
from ..pool.pool import ModelPool
from ..pool.pooled_model import PooledModel
from ..versions.traffic import Traffic
from ..watch.observe import Observer, ServedRequest

Chunks = tuple[int, list[Chunk]]


class Generation:
    """The answers to one request while they are generated. The model is held for it."""

    def __init__(
        self, model: PooledModel, engine: EngineClient, observer: Observer, request: ServedRequest
    ) -> None:
        self.engine = engine
        self.request = request
        self.held = time.perf_counter()  # when the model was loaded
        self.done = False  # everything is sent: a client that disconnects now has not cancelled
        self.model = model
        self._observer = observer

    async def chunks(
        self, requests: Sequence[GenerationRequest], *, per_prompt: int | None = None, whole: bool = False
    ) -> AsyncGenerator[Chunks, None]:
        """The chunks of all answers as they come, with the index of the answer.

        Args:
            per_prompt: consecutive requests that have the same prompt; all of them by default.
            whole: nothing is sent before the answers are whole (see `EngineClient.stream`).
        """
        served, observer = self.request, self._observer
        served.asked = requests
        usages: dict[int, Usage] = {}
        async with contextlib.aclosing(_answers(self.engine, requests, whole)) as answers:
            async for index, chunks in answers:
                n_tokens = 0
                for chunk in chunks:
                    # A remote endpoint sends no token ids. Its pieces of text are counted until it sends its usage.
                    n_tokens += len(chunk.token_ids) or bool(chunk.text or chunk.reasoning)
                    if chunk.usage is not None:
                        usages[index] = chunk.usage
                        self.model.count(chunk.usage)
                    if chunk.finish_reason not in (None, RESTARTED):
                        served.finish_reasons.append(chunk.finish_reason)
                if served.texts is not None:
                    if chunks[-1].finish_reason == RESTARTED:
                        served.texts[index].clear()
                    served.texts[index] += [chunk.text for chunk in chunks]
                if n_tokens:
                    if not served.first_token:
                        served.first_token = time.perf_counter()
                        observer.on_first_token(served)
                    served.tokens += n_tokens
                    observer.on_chunk(served, n_tokens)
                if len(usages) == len(requests):
                    served.usage = total_usage(usages, per_prompt or len(requests))
                    served.tokens = served.usage.completion_tokens
                yield index, chunks

    async def complete(
        self, requests: Sequence[GenerationRequest], *, per_prompt: int | None = None
    ) -> list[Completion]:
        """All answers, whole."""
        parts: list[list[Chunk]] = [[] for _ in requests]
        async with contextlib.aclosing(self.chunks(requests, per_prompt=per_prompt, whole=True)) as answers:
            async for index, chunks in answers:
                parts[index] += chunks
        return [Completion.of(chunks) for chunks in parts]

    @property
    def usage(self) -> Usage:
        """Usage of all answers together; zeros until the last has ended."""
        return self.request.usage or Usage()


@contextlib.asynccontextmanager
async def generation(
    pool: ModelPool,
    traffic: Traffic,
    observer: Observer,
    request: ServedRequest,
    receive: Receive,
    keep_alive_s: float | None,
) -> AsyncGenerator[Generation, None]:
    """Hold the model that answers the request. If the client disconnects, the block is cancelled without an error."""
    task = asyncio.current_task()
    assert task is not None
    current: Generation | None = None
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        if current is None or not current.done:
            left = True
            task.cancel()

    observer.on_start(request)
    watching = asyncio.create_task(watch())
    try:
        request.target = await traffic.target(request.model, request.stick)
        request.shares = traffic.behind(request.model)
        async with pool.lease(request.target, keep_alive_s=keep_alive_s) as (model, engine):
            request.held = model.spec, engine.info
            current = Generation(model, engine, observer, request)
            yield current
    except asyncio.CancelledError:
        request.cancelled = True
        if not left:
            raise
        task.uncancel()
    except Exception as error:
        request.error = as_known(error)
        request.status = request.error.status
        raise
    finally:
        watching.cancel()
        request.ended = time.perf_counter()
        observer.on_end(request)


async def _answers(
    engine: EngineClient, requests: Sequence[GenerationRequest], whole: bool
) -> AsyncGenerator[Chunks, None]:
    """The chunks of all answers in the order of their arrival. The first error ends all of them."""
    if len(requests) > 1:
        async with contextlib.aclosing(_merged(engine, requests, whole)) as merged:
            async for item in merged:
                yield item
    for request in requests if len(requests) == 1 else ():
        async with contextlib.aclosing(engine.stream(request, whole=whole)) as stream:
            async for chunks in stream:
                yield 0, chunks


async def _merged(
    engine: EngineClient, requests: Sequence[GenerationRequest], whole: bool
) -> AsyncGenerator[Chunks, None]:
    arrived: asyncio.Queue[Chunks | Exception | None] = asyncio.Queue()
    # So one client's list of prompts cannot fill the queue.
    turn = asyncio.Semaphore(max(1, engine.info.max_slots))

    async def pump(index: int, request: GenerationRequest) -> None:
        try:
            async with turn, contextlib.aclosing(engine.stream(request, whole=whole)) as stream:
                async for chunks in stream:
                    arrived.put_nowait((index, chunks))
            arrived.put_nowait(None)
        except Exception as error:
            arrived.put_nowait(error)

    pumps = [asyncio.create_task(pump(index, request)) for index, request in enumerate(requests)]
    try:
        running = len(pumps)
        while running:
            item = await arrived.get()
            if item is None:
                running -= 1
            elif isinstance(item, Exception):
                raise item
            else:
                yield item
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
