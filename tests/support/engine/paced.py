"""Engines that are paced in time, not by a processor: slots, prompts that are kept, and a death at will."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

from lqmf_runner.engine.client import EngineClient
from lqmf_runner.engine.replicas.sources import Progress
from lqmf_runner.errors import EngineLostError, LqmfError
from lqmf_runner.types import Chunk, EngineStats, GenerationRequest, Usage

from .scripted import INFO, ScriptedEngine


class PacedEngine(ScriptedEngine):
    """Answers `max_tokens` tokens, one every `step_s`, at most `slots` requests at a time.

    A prompt is its text, a token a character. A slot keeps its prompt and answer until it takes another one.

    Attributes:
        computed: prompt tokens that were in no slot.
    """

    def __init__(self, *, slots: int = 4, step_s: float = 0.01, prompt_token_s: float = 0.0) -> None:
        super().__init__(lambda *_: [], info=msgspec.structs.replace(INFO, max_slots=slots))
        self.step_s = step_s
        self.computed = 0
        self.dead: LqmfError | None = None
        self._prompt_token_s = prompt_token_s
        self._free = asyncio.Semaphore(slots)
        self._slots: OrderedDict[str, None] = OrderedDict()
        self._n_slots = slots
        self._running: set[asyncio.Future[None]] = set()

    async def stream(
        self, request: GenerationRequest, *, whole: bool = False
    ) -> AsyncGenerator[list[Chunk], None]:
        if self.dead:
            raise self.dead
        self.requests.append(request)
        prompt = prompt_text(request)
        tokens = request.sampling.max_tokens or 0
        await self._lives(self._free.acquire())
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            held = self._take_slot(prompt)
            self.computed += len(prompt) - held
            await self._lives(asyncio.sleep((len(prompt) - held) * self._prompt_token_s))
            for n in range(tokens):
                await self._lives(asyncio.sleep(self.step_s))
                yield [Chunk(text="x", token_ids=(n,))]
            self._slots[prompt + "x" * tokens] = None
            usage = Usage(prompt_tokens=len(prompt), cached_tokens=held, completion_tokens=tokens)
            yield [Chunk(finish_reason="length", usage=usage)]
        finally:
            self.running -= 1
            self._free.release()

    def kill(self) -> None:
        """Die as a worker does: all requests fail, and then the loss is reported."""
        self.dead = EngineLostError(
            "the process of 'scripted' ended: killed (signal 9)", hint="load it again"
        )
        for waiting in list(self._running):
            if not waiting.done():
                waiting.set_exception(self.dead)
        self.report_loss(self.dead)

    async def stats(self) -> EngineStats:
        return EngineStats(requests=len(self.requests), prompt_tokens=self.computed)

    def _take_slot(self, prompt: str) -> int:
        """The tokens of the prompt that a slot holds. The slot with the most of them, or the oldest, is given up."""
        held = {kept: shared(kept, prompt) for kept in self._slots}
        best = max(held, key=lambda kept: held[kept], default=None)
        if best is not None and held[best] == len(best):
            del self._slots[best]
        elif len(self._slots) >= self._n_slots:
            self._slots.popitem(last=False)
        return held[best] if best is not None else 0

    async def _lives(self, work: Any) -> None:
        """Wait for work, or fail with the engine."""
        task, end = asyncio.ensure_future(work), asyncio.get_running_loop().create_future()
        self._running.add(end)
        if self.dead:
            end.set_exception(self.dead)
        try:
            await asyncio.wait({task, end}, return_when=asyncio.FIRST_COMPLETED)
            if end.done():
                end.result()
        finally:
            task.cancel()
            self._running.discard(end)


class Starts:
    """A source of engines (see `replicas.sources.Source`) that counts its starts and fails where it is told to.

    Attributes:
        engines: that were started, in order, with their numbers.
        errors: what the next starts fail with, by number.
        at: the loop's time of each start, by number.
        load_s: what a start takes.
    """

    all_needed = True

    def __init__(
        self,
        make: Callable[[], EngineClient] = PacedEngine,
        *,
        load_s: float = 0.1,
        most: int | None = None,
        all_needed: bool = True,
    ) -> None:
        self.most = most
        self.all_needed = all_needed
        self.engines: list[tuple[int, Any]] = []
        self.errors: dict[int, list[LqmfError]] = {}
        self.at: dict[int, list[float]] = {}
        self._make = make
        self.load_s = load_s

    async def start(self, number: int, on_progress: Progress) -> EngineClient:
        """See `Source`."""
        self.at.setdefault(number, []).append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.load_s)
        if self.errors.get(number):
            raise self.errors[number].pop(0)
        engine = self._make()
        self.engines.append((number, engine))
        return engine

    def latest(self, number: int) -> Any:
        """The engine that has this number now."""
        return [engine for of, engine in self.engines if of == number][-1]


def shared(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def prompt_text(request: GenerationRequest) -> str:
    """The prompt of a request, a token a character."""
    if request.prompt is not None:
        return request.prompt
    return "".join(f"<{m.role}>{m.content}" for m in request.messages or ())
