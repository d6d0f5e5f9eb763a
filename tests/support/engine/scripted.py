"""An engine with a script instead of a model, and an event loop whose time passes only where somebody sleeps."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lqmf_runner.config import PromptsConfig
from lqmf_runner.engine.client import EngineClient
from lqmf_runner.load.conversations import Conversation, cycle_conversations, prompt_conversations
from lqmf_runner.types import (
    Chunk,
    EngineStats,
    GenerationRequest,
    MemoryUse,
    ModelInfo,
    OptionLogprobs,
    Score,
    Usage,
)

T = TypeVar("T")


class _NoWait(selectors.SelectSelector):
    """Hands each wait to `passed` instead of waiting."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "nothing left to wait for: the code under test hangs"
        self.passed += timeout
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """`asyncio.sleep(5)` returns at once and `time()` is 5 s later: exact timings, no waiting."""

    def __init__(self) -> None:
        self._no_wait = _NoWait()
        super().__init__(self._no_wait)

    def time(self) -> float:
        return self._no_wait.passed


def run_virtual(make: Callable[[Callable[[], float]], Coroutine[Any, Any, T]]) -> T:
    """Run `make(clock)` on a loop of virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(make(runner.get_loop().time))


@dataclass(frozen=True)
class Say:
    """After `delay` seconds, send a chunk. The last one of an answer says why it ends."""

    delay: float
    text: str = ""
    tokens: int = 1
    finish_reason: str = "stop"


@dataclass(frozen=True)
class Fail:
    """After `delay` seconds, raise."""

    delay: float
    error: Exception


INFO = ModelInfo(
    name="scripted", format="gguf", method="Q4_1", architecture="llama", bits=4.0, bits_per_weight=5.8,
    parameters=134_000_000, size_mb=98.0, weight_bytes=98_000_000, n_ctx=2048, n_vocab=1000, max_slots=16,
    device="cpu", dtype="Q4_1", chat_template=True, load_time_s=0.25, version="abc123",
)  # fmt: skip


class ScriptedEngine(EngineClient):
    """Answers the n-th request with `script(n, request)`: a list of `Say` and `Fail`."""

    def __init__(
        self,
        script: Callable[[int, GenerationRequest], Sequence[Say | Fail]],
        *,
        stats: Sequence[EngineStats] = (),
        info: ModelInfo = INFO,
    ) -> None:
        self.info = info
        self.requests: list[GenerationRequest] = []
        self.running = self.most_running = 0
        self.closed = False
        self._script = script
        self._stats = list(stats)

    async def stream(
        self, request: GenerationRequest, *, whole: bool = False
    ) -> AsyncGenerator[list[Chunk], None]:
        number = len(self.requests)
        self.requests.append(request)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            tokens, reason = 0, "stop"
            for step in self._script(number, request):
                await asyncio.sleep(step.delay)
                if isinstance(step, Fail):
                    raise step.error
                tokens += step.tokens
                reason = step.finish_reason
                yield [Chunk(text=step.text, token_ids=(7,) * step.tokens)]
            usage = Usage(prompt_tokens=10, completion_tokens=tokens, decode_s=0.5)
            yield [Chunk(finish_reason=reason, usage=usage)]
        finally:
            self.running -= 1

    async def score(self, tokens: Sequence[int] | str) -> Score:
        raise NotImplementedError

    async def option_logprobs(
        self, request: GenerationRequest, options: Sequence[Sequence[str]]
    ) -> OptionLogprobs:
        raise NotImplementedError

    async def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        raise NotImplementedError

    async def detokenize(self, tokens: Sequence[int]) -> str:
        raise NotImplementedError

    async def stats(self) -> EngineStats:
        return self._stats.pop(0) if self._stats else EngineStats()

    async def memory(self) -> MemoryUse:
        return MemoryUse(rss_mb=200.0, peak_rss_mb=210.0)

    async def close(self) -> None:
        self.closed = True


class QueueEngine(ScriptedEngine):
    """`servers` that work on one request each, `service_s` long, in order of arrival."""

    def __init__(self, service_s: float, servers: int = 1) -> None:
        super().__init__(lambda *_: [Say(service_s, "x")])
        self._free = asyncio.Semaphore(servers)

    async def stream(
        self, request: GenerationRequest, *, whole: bool = False
    ) -> AsyncGenerator[list[Chunk], None]:
        async with self._free:
            async for chunks in super().stream(request, whole=whole):
                yield chunks


class WordTokens(ScriptedEngine):
    """Tokenizes into single characters, except that "ab" is one token wherever it stands; one token goes in front.

    A text cut between "a" and "b" is thus one token longer or shorter than what it was cut from, as with real ones.
    """

    async def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        tokens = [1] if special else []
        at = 0
        while at < len(text):
            pair = text[at : at + 2] == "ab"
            tokens.append(2 if pair else ord(text[at]))
            at += 2 if pair else 1
        return tokens

    async def detokenize(self, tokens: Sequence[int]) -> str:
        return "".join("ab" if token == 2 else chr(token) for token in tokens)


def planned(prompts: PromptsConfig, requests: int) -> list[Conversation]:
    """Conversations that make exactly so many requests, cycling over the prompt set."""
    return list(cycle_conversations(prompt_conversations(prompts), requests))
