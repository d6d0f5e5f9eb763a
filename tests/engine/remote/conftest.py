"""An endpoint, and the engine that is its client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from lqmf_runner.engine import EngineClient, load_engine
from tests.support.engine.scripted_endpoint import Endpoint, spec


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture
async def engine(endpoint: Endpoint) -> AsyncIterator[EngineClient]:
    async with await load_engine(spec(endpoint)) as engine:
        yield engine


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
