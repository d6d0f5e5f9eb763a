"""`ProcessEngine`: an `EngineClient` whose model lives in a worker process, on this machine or another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from ..errors import EngineLostError, LqmfError
from ..types import (
    Chunk,
    Embeddings,
    EngineStats,
    GenerationRequest,
    MemoryUse,
    ModelSpec,
    NextTokenLogprobs,
    OptionLogprobs,
    PromptCacheUse,
    Score,
    Window,
    WindowScore,
)
from .client import EngineClient
from .connection import Connection
from .options import PreparedOptions
from .process import WorkerProcess, loss
from .protocol import (
    Detokenize,
    Embed,
    GetStats,
    Load,
    NextTokens,
    PrepareOptions,
    ResetPrefixCache,
    ScoreTokens,
    ScoreWindow,
    ShrinkPromptCache,
    Tokenize,
)


class ProcessEngine(EngineClient):
    """Talks to one worker over one connection.

    The worker ends when its connection closes, so it cannot outlive this process however that ends.

    Args:
        process: the worker, which runs already.
    """

    def __init__(
        self, name: str, process: WorkerProcess, on_progress: Callable[[float], None] | None = None
    ) -> None:
        self.connection = Connection(self._closed, on_progress)
        self._name = name
        self.place = process.node
        self._process = process
        self._closing = self._lost = False
        self._farewell: asyncio.Task[None] | None = None

    async def load(self, spec: ModelSpec, connected: Awaitable[object]) -> None:
        """Load the model; returns when it is ready to answer.

        Args:
            connected: makes `connection` have its transport.

        Raises:
            LqmfError: whatever the load failed with; no process is left.
        """
        try:
            await connected
            self.connection.send(Load(spec))
            timeout = spec.options.get("load_timeout_s")
            async with asyncio.timeout(timeout):
                self.info = await self.connection.loaded
        except BaseException as error:
            await self.close()
            if isinstance(error, TimeoutError):
                raise EngineLostError(
                    f"'{spec.name}' did not load within {timeout:g} s", hint="raise backend.load_timeout_s"
                ) from None
            raise

    @property
    def pid(self) -> int:
        """Process id of the worker on its machine."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the worker still answers."""
        return self.connection.alive

    def stream(self, request: GenerationRequest, *, whole: bool = False) -> AsyncGenerator[list[Chunk], None]:
        return self.connection.stream(request, whole)

    async def score(self, tokens: Sequence[int] | str, *, top: int = 0) -> Score:
        what = tokens if isinstance(tokens, str) else list(tokens)
        return await self.connection.ask(lambda i: ScoreTokens(i, what, top), Score)

    async def score_window(self, window: Window) -> WindowScore:
        return await self.connection.ask(lambda i: ScoreWindow(i, window), WindowScore)

    async def option_logprobs(
        self, request: GenerationRequest, options: Sequence[Sequence[str]]
    ) -> OptionLogprobs:
        forms = [list(option) for option in options]
        prepared = await self.connection.ask(lambda i: PrepareOptions(i, request, forms), PreparedOptions)
        contexts = prepared.contexts()
        answers = await asyncio.gather(*(self._next_tokens(*context) for context in contexts))
        return prepared.combine(contexts, answers)

    async def _next_tokens(self, tokens: list[int], candidates: list[int]) -> NextTokenLogprobs:
        return await self.connection.ask(lambda i: NextTokens(i, tokens, candidates), NextTokenLogprobs)

    async def embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        if not self.info.embeddings:
            return await super().embed(texts)
        inputs = [text if isinstance(text, str) else list(text) for text in texts]
        return await self.connection.ask(lambda i: Embed(i, inputs), Embeddings)

    async def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        return await self.connection.ask(lambda i: Tokenize(i, text, special), list[int])

    async def detokenize(self, tokens: Sequence[int]) -> str:
        return await self.connection.ask(lambda i: Detokenize(i, list(tokens)), str)

    async def stats(self) -> EngineStats:
        return await self.connection.ask(GetStats, EngineStats)

    async def reset_prefix_cache(self) -> bool:
        return await self.connection.ask(ResetPrefixCache, bool)

    @property
    def prompt_cache(self) -> PromptCacheUse:
        """See `EngineClient`."""
        return self.connection.prompt_cache

    async def shrink_prompt_cache(self, mb: float) -> None:
        if self.alive:
            self.connection.send(ShrinkPromptCache(int(mb * 1e6)))

    async def memory(self) -> MemoryUse:
        return await self._process.memory()

    async def close(self) -> None:
        self._closing = True
        self.connection.end(EngineLostError(f"'{self._name}' was unloaded", hint="load it again"))
        await self._process.close()

    def _closed(self) -> None:
        """The worker closed the connection: it is dead or dying."""
        self.connection.refuse(loss(self._name, None, node=self.place))
        self._farewell = asyncio.get_running_loop().create_task(self._report_loss())

    async def _report_loss(self) -> None:
        """Fail all requests, with the exit code if it is known."""
        code = await self._process.exit_code()
        self.give_up(loss(self._name, code, node=self.place, loading=not self.connection.loaded.done()))

    def give_up(self, error: LqmfError) -> None:
        """Fail all requests with `error` because the worker is lost."""
        if self._closing or self._lost:
            return
        self._lost = True
        self.connection.refuse(error)
        self.connection.end(error)
        self.report_loss(error)
