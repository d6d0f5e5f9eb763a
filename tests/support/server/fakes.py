"""Engines with a script instead of a model, a catalog of them, and the application on a real port."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import msgspec
import uvicorn

from lqmf_runner.config import ServerConfig
from lqmf_runner.engine import EngineClient
from lqmf_runner.engine.on_demand import LoadEngine
from lqmf_runner.engine.replicas.replica_set import ReplicaSet
from lqmf_runner.errors import ContextLengthError, LqmfError
from lqmf_runner.server.app import create_app
from lqmf_runner.server.pool.catalog import CatalogEntry, unknown_model
from lqmf_runner.server.pool.pool import ModelPool
from lqmf_runner.server.routes import ROUTES
from lqmf_runner.server.state import create_state
from lqmf_runner.types import (
    Chunk,
    Embeddings,
    EngineStats,
    GenerationRequest,
    MemoryUse,
    ModelInfo,
    ModelSpec,
    OptionLogprobs,
    PromptCacheUse,
    Score,
    TokenLogprob,
    Usage,
)

from ..engine.paced import Starts

INFO = ModelInfo(
    name="fake", format="gguf", method="Q4_1", architecture="llama", bits=4.0, bits_per_weight=5.8,
    parameters=134_000_000, size_mb=98.0, weight_bytes=98_000_000, n_ctx=2048, n_vocab=1000, max_slots=16,
    device="cpu", dtype="Q4_1", chat_template=True, load_time_s=0.25, version="abc123",
)  # fmt: skip

Script = Callable[[GenerationRequest], Sequence[str | Chunk | LqmfError | asyncio.Event]]


def hello(request: GenerationRequest) -> Sequence[str]:
    """The script of an engine that always says the same."""
    return ["Hel", "lo", " you"]


class FakeEngine(EngineClient):
    """Answers with the pieces of a script, one token each; waits for its events and raises its errors."""

    def __init__(self, script: Script = hello, *, memory_mb: float = 100.0, name: str = "fake") -> None:
        self.info = msgspec.structs.replace(INFO, name=name)
        self.requests: list[GenerationRequest] = []
        self.running = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self.closed = False
        self.ended = asyncio.Event()
        self.memory_mb = memory_mb
        self.kept = PromptCacheUse()
        self._script = script

    async def stream(
        self, request: GenerationRequest, *, whole: bool = False
    ) -> AsyncGenerator[list[Chunk], None]:
        self.requests.append(request)
        self.running += 1
        self.idle.clear()
        n = 0
        try:
            for item in self._script(request):
                if isinstance(item, asyncio.Event):
                    await item.wait()
                elif isinstance(item, Exception):
                    raise item
                elif isinstance(item, Chunk):
                    yield [item]
                else:
                    await asyncio.sleep(0)
                    n += 1
                    logprobs = (TokenLogprob(n, item, -0.5, ((n, item, -0.5), (0, "?", -1.5))),)
                    wanted = request.sampling.logprobs is not None
                    yield [Chunk(text=item, token_ids=(n,), logprobs=logprobs if wanted else ())]
            usage = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=n, decode_s=0.5)
            yield [Chunk(finish_reason="stop", usage=usage)]
        finally:
            self.running -= 1
            if not self.running:
                self.idle.set()

    @property
    def prompt_cache(self) -> PromptCacheUse:
        return self.kept

    async def shrink_prompt_cache(self, mb: float) -> None:
        """The memory that is given back is part of `memory_mb`."""
        self.memory_mb -= self.kept.mb - mb
        self.kept = msgspec.structs.replace(self.kept, mb=mb)

    async def score(self, tokens: Sequence[int] | str, *, top: int = 0) -> Score:
        """Token i has the log-probability -i; the likeliest is always "!" with -0.25."""
        assert not isinstance(tokens, str)
        n = len(tokens)
        best = ((33, "!", -0.25), (34, '"', -0.5))[:top]
        return Score(
            token_ids=tuple(tokens),
            logprobs=(None, *(-float(i) for i in range(1, n))),
            greedy=(None,) + (False,) * (n - 1),
            top=((),) + (best,) * (n - 1) if top else (),
        )

    async def option_logprobs(
        self, request: GenerationRequest, options: Sequence[Sequence[str]]
    ) -> OptionLogprobs:
        """The first option has three quarters of what all labels have, which is a half."""
        rest = 0.125 / max(len(options) - 1, 1)
        values = [0.375] + [rest] * (len(options) - 1)
        return OptionLogprobs(logprobs=tuple(map(math.log, values)), prompt_tokens=10, cached_tokens=4)

    async def embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        if not self.info.embeddings:
            return await super().embed(texts)
        if any(len(text) > self.info.n_ctx for text in texts):
            raise ContextLengthError("a text is too long")
        return Embeddings([[float(len(text)), 0.5] for text in texts], sum(map(len, texts)))

    async def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        return [1] * special + list(text.encode())

    async def detokenize(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode()

    async def stats(self) -> EngineStats:
        return EngineStats()

    async def memory(self) -> MemoryUse:
        return MemoryUse(rss_mb=self.memory_mb)

    async def close(self) -> None:
        self.closed = True
        self.ended.set()


class FakeCatalog:
    """Models by name, each of a size in MB, some with files and settings."""

    def __init__(self, sizes: dict[str, float], specs: dict[str, ModelSpec] | None = None) -> None:
        self.sizes = sizes
        self.specs = specs or {}

    async def find(self, name: str) -> tuple[ModelSpec, float]:
        if name not in self.sizes:
            raise unknown_model(name, self.sizes)
        return self.specs.get(name) or ModelSpec(name=name, format="gguf", path=""), self.sizes[name]

    async def entries(self) -> list[CatalogEntry]:
        """Those that are no versions."""
        return [
            CatalogEntry(name=name, format="gguf", size_mb=size)
            for name, size in self.sizes.items()
            if "@" not in name
        ]


def create_loader(script: Script, engines: dict[str, FakeEngine]) -> LoadEngine:
    """Loads scripted engines: replicas where the placement wants several, else one, which goes into `engines`."""

    async def load(spec: ModelSpec, on_progress: Any) -> EngineClient:
        if spec.placement.most_replicas > 1:
            source = Starts(lambda: FakeEngine(script, name=spec.name), load_s=0)
            return await ReplicaSet.start(spec.name, source, spec.placement.replicas)
        engines[spec.name] = FakeEngine(script, name=spec.name)
        return engines[spec.name]

    return load


@contextlib.asynccontextmanager
async def live(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, which runs on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = uvicorn.Server(
            uvicorn.Config(app, loop="none", http="httptools", log_config=None, access_log=False)
        )
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        try:
            async with httpx.AsyncClient(base_url=url, timeout=20) as client:
                yield client
        finally:
            server.should_exit = True
            await serving


@contextlib.asynccontextmanager
async def fake_server(
    script: Script = hello, *, sizes: dict[str, float] | None = None, **options: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, dict[str, FakeEngine]]]:
    """A client, and the engines that were loaded, by name. `options` are of `ServerConfig` and `create_state`."""
    engines: dict[str, FakeEngine] = {}
    fields = ServerConfig.__dataclass_fields__
    config = ServerConfig(**{key: value for key, value in options.items() if key in fields})
    pool = ModelPool(FakeCatalog(sizes or {"m": 100.0}), config, load=create_loader(script, engines))
    others = {key: value for key, value in options.items() if key not in fields}
    app = create_app(create_state(config, pool, **{"routes": ROUTES, **others}))
    async with live(app) as client:
        yield client, engines
