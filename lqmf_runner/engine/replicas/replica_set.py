"""`ReplicaSet`: several engines with the same model as one `EngineClient`."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import reduce
from typing import Self, TypeVar

import msgspec

from ...errors import LqmfError, UnavailableError
from ...types import (
    RESTARTED,
    Chunk,
    Embeddings,
    EngineStats,
    GenerationRequest,
    MemoryUse,
    ModelInfo,
    OptionLogprobs,
    PromptCacheUse,
    ReplicaState,
    Score,
    Window,
    WindowScore,
)
from ..client import EngineClient
from .attempts import ELSEWHERE, Attempts, Chosen
from .fleet import Fleet
from .policy import choose
from .prompts import BYTES_PER_TOKEN, Prompt, describe
from .replica import WAITING, Replica, Work, added, known_paces
from .sources import Progress, Source

T = TypeVar("T")

PATIENCE_S = 10.0
"""A request waits so long for the next try to start a replica, while none is there."""


class ReplicaSet(EngineClient):
    """Spreads requests over engines. Make it with `ReplicaSet.start`.

    `policy.py` has the rule. A request that has sent nothing when its replica is lost is sent to another one, as often
    as need be (`attempts.MOST_LOST` times at most); one that has fails at once. First tokens without a text yet, such
    as a part of a character, wait for the text, so that until then nothing has been sent. In an answer that is wanted
    `whole`, nothing has been sent before its end: it begins again, after a chunk whose `finish_reason` is `RESTARTED`.

    An endpoint that answers a request with an error (5xx) is taken for lost only if another one answers the same
    request. One that is busy (429, 503) rests as long as it says, and the request is tried at all others before it is
    refused. What an endpoint refuses otherwise (4xx) is passed on.

    Attributes:
        info: of the first replica, with the slots of all; `notes` say how many there are.
    """

    def __init__(self, name: str, source: Source) -> None:
        self._fleet = Fleet(name, source, self._describe)
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def start(cls, name: str, source: Source, count: int, on_progress: Progress = None) -> Self:
        """Start `count` replicas at the same time. Returns when they answer: all of them, or one if that will do.

        Raises:
            LqmfError: whatever a start failed with; nothing is left running.
        """
        made = cls(name, source)
        try:
            await made._fleet.start(count, on_progress)
        except BaseException:
            await made.close()
            raise
        return made

    async def scale(self, count: int) -> None:
        """Start or end replicas until there are `count`; see `Fleet.scale`."""
        await self._fleet.scale(count)

    def replicas(self) -> list[ReplicaState]:
        now = self._fleet.now
        paces = known_paces(self._fleet.ready, now)
        return [replica.report(paces, now) for replica in self._fleet.replicas]

    async def stream(
        self, request: GenerationRequest, *, whole: bool = False
    ) -> AsyncGenerator[list[Chunk], None]:
        prompt, attempts = describe(request), Attempts(self._fleet)
        while True:
            chosen = await self._choose(prompt, attempts)
            sent = False
            unseen: list[Chunk] = []
            try:
                with Work(chosen.replica, prompt, chosen.held, self._loop) as work:
                    async with contextlib.aclosing(chosen.engine.stream(request, whole=whole)) as stream:
                        async for chunks in stream:
                            work.advance(chunks)
                            if not sent:
                                attempts.answered()
                                unseen += chunks
                                if not (whole or any(map(_shows, chunks))):
                                    continue
                                sent, chunks = True, unseen
                            yield chunks
                return
            except ELSEWHERE as error:
                attempts.fail(chosen, error, begun=sent and not whole)
                if sent:
                    yield [Chunk(finish_reason=RESTARTED)]

    async def score(self, tokens: Sequence[int] | str, *, top: int = 0) -> Score:
        return await self._at_one(_size(tokens), lambda engine: engine.score(tokens, top=top))

    async def score_window(self, window: Window) -> WindowScore:
        return await self._at_one(len(window.tokens), lambda engine: engine.score_window(window))

    async def option_logprobs(
        self, request: GenerationRequest, options: Sequence[Sequence[str]]
    ) -> OptionLogprobs:
        prompt = msgspec.structs.replace(
            request, sampling=msgspec.structs.replace(request.sampling, max_tokens=1)
        )
        return await self._ask(describe(prompt), lambda engine: engine.option_logprobs(request, options))

    async def embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        return await self._at_one(sum(map(_size, texts)), lambda engine: engine.embed(texts))

    async def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        return await self._at_one(0, lambda engine: engine.tokenize(text, special=special))

    async def detokenize(self, tokens: Sequence[int]) -> str:
        return await self._at_one(0, lambda engine: engine.detokenize(tokens))

    async def stats(self) -> EngineStats:
        """The sums over all replicas, those that have ended included as far as their counters were read."""

        async def read(replica: Replica) -> EngineStats:
            if (engine := replica.engine) is not None:
                with contextlib.suppress(LqmfError):
                    stats = await engine.stats()
                    if replica.engine is engine:  # else they were taken over when it was lost
                        replica.stats = stats
            return added(replica.gone, replica.stats)

        return reduce(added, await asyncio.gather(*map(read, self._fleet.replicas)), self._fleet.gone)

    async def memory(self) -> MemoryUse:
        """The sums over all replicas. The peak is the sum of their peaks, which need not have been at one time."""

        async def read(replica: Replica) -> MemoryUse:
            if (engine := replica.engine) is not None:
                with contextlib.suppress(LqmfError):
                    memory = await engine.memory()
                    if replica.engine is engine:  # else it was lost meanwhile, and its memory is free
                        replica.memory = memory
            return replica.memory

        uses = await asyncio.gather(*map(read, self._fleet.replicas))
        fields = MemoryUse.__struct_fields__
        return MemoryUse(**{name: sum(getattr(use, name) for use in uses) for name in fields})

    async def reset_prefix_cache(self) -> bool:
        """Of all replicas; False if one of them has no such call."""
        ready = self._fleet.ready
        for replica in ready:
            replica.held.clear()
        return all(await asyncio.gather(*(r.engine.reset_prefix_cache() for r in ready if r.engine)))

    @property
    def prompt_cache(self) -> PromptCacheUse:
        """The sums over all replicas."""
        uses = [replica.engine.prompt_cache for replica in self._fleet.replicas if replica.engine]
        fields = PromptCacheUse.__struct_fields__
        return PromptCacheUse(**{name: sum(getattr(use, name) for use in uses) for name in fields})

    async def shrink_prompt_cache(self, mb: float) -> None:
        """Each replica keeps the same share of what it has."""
        share = mb / max(self.prompt_cache.mb, mb, 1e-9)
        for replica in self._fleet.replicas:
            if replica.engine is not None:
                await replica.engine.shrink_prompt_cache(replica.engine.prompt_cache.mb * share)

    async def close(self) -> None:
        await asyncio.shield(self._fleet.close())  # all of them end, also if the wait for it is cancelled

    async def _at_one(self, tokens: int, call: Callable[[EngineClient], Awaitable[T]]) -> T:
        return await self._ask(Prompt((), tokens, 0), call)

    async def _ask(self, prompt: Prompt, call: Callable[[EngineClient], Awaitable[T]]) -> T:
        """Ask one replica, and another one where that is lost."""
        attempts = Attempts(self._fleet)
        while True:
            chosen = await self._choose(prompt, attempts)
            try:
                with Work(chosen.replica, prompt, chosen.held, self._loop):
                    answer = await call(chosen.engine)
                attempts.answered()
                return answer
            except ELSEWHERE as error:
                attempts.fail(chosen, error)

    async def _choose(self, prompt: Prompt, attempts: Attempts) -> Chosen:
        """The replica for a request. It waits while none is ready and one is started now or soon.

        One that has failed the request is taken only if no other one is there or comes, and one that rests only if
        all do.

        Raises:
            UnavailableError: none is there, and none is started within `PATIENCE_S`.
            EngineLostError: the model was unloaded.
        """
        fleet = self._fleet
        while not fleet.closed:
            there, coming, now = fleet.ready, fleet.starting, fleet.now
            others = [replica for replica in there if replica.engine not in attempts.failed]
            ready = [replica for replica in others if replica.rests_until <= now] or others
            if ready := ready or ([] if coming else there):
                paces = known_paces(there, now)
                candidates = [replica.candidate(prompt, paces, now) for replica in ready]
                best = choose(candidates, prompt.tokens, prompt.output_tokens)
                replica = ready[best]
                assert replica.engine is not None
                replica.held.add(prompt.blocks)
                return Chosen(replica, replica.engine, candidates[best].held)
            if not coming:
                self._check_one_comes()
            fleet.changed.clear()
            await fleet.changed.wait()
        raise fleet.unloaded()

    def _check_one_comes(self) -> None:
        replicas = self._fleet.wanted
        retries = [replica.retry_at for replica in replicas if replica.state == WAITING]
        wait = max(0.0, min(retries, default=math.inf) - self._fleet.now)
        if wait > PATIENCE_S:
            raise UnavailableError(
                f"none of the {len(replicas)} replicas of '{self._fleet.name}' answers; "
                f"one is started again in {wait:.0f} s",
                hint="try again then",
                retry_after_s=wait,
            )

    def _describe(self) -> None:
        """Make `info` that of the replicas there are."""
        infos = [replica.engine.info for replica in self._fleet.wanted if replica.engine is not None]
        if infos:
            self.info: ModelInfo = msgspec.structs.replace(
                infos[0],
                name=self._fleet.name,
                max_slots=sum(info.max_slots for info in infos),
                n_ctx=min(info.n_ctx for info in infos),
                load_time_s=max(info.load_time_s for info in infos),
                notes=(*infos[0].notes, f"{len(infos)} of {len(self._fleet.wanted)} replicas are ready"),
            )


def _shows(chunk: Chunk) -> bool:
    """Whether the chunk has anything that a client is sent."""
    return bool(chunk.text or chunk.reasoning or chunk.logprobs or chunk.finish_reason)


def _size(tokens: str | Sequence[int]) -> int:
    """Tokens of a text (estimated) or of its ids."""
    return len(tokens) // BYTES_PER_TOKEN if isinstance(tokens, str) else len(tokens)
