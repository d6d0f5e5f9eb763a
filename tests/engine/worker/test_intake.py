"""A text that takes seconds to tokenize keeps nobody waiting, and can be left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from lqmf_runner.engine.local import LocalEngine
from lqmf_runner.errors import ContextLengthError
from lqmf_runner.types import GenerationRequest, ModelSpec, SamplingParams

from ...support.models.tiny import make_gguf

HUGE = GenerationRequest(prompt="word " * 2_000_000)
SHORT = GenerationRequest(prompt="a", sampling=SamplingParams(max_tokens=1))


@pytest_asyncio.fixture
async def engine(tmp_path: Path) -> AsyncIterator[LocalEngine]:
    spec = ModelSpec(
        name="m",
        format="gguf",
        path=str(make_gguf(tmp_path / "m.gguf")),
        options={"n_threads": 1, "n_ctx": 256},
    )
    async with await LocalEngine.start(spec) as engine:
        yield engine


async def test_short_requests_overtake_a_huge_one(engine: LocalEngine) -> None:
    huge = asyncio.create_task(engine.complete(HUGE))
    await asyncio.sleep(0)  # it is sent
    assert len(await engine.tokenize("abc")) == 3
    await engine.complete(SHORT)
    assert not huge.done()
    with pytest.raises(ContextLengthError, match="10000000 tokens"):
        await huge


async def test_a_huge_request_can_be_left(engine: LocalEngine) -> None:
    huge = asyncio.create_task(engine.complete(HUGE))
    await asyncio.sleep(0)
    huge.cancel()
    with pytest.raises(asyncio.CancelledError):
        await huge
    await engine.complete(SHORT)
    assert (await engine.stats()).waiting == 0
