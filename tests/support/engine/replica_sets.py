"""A set of engines that are paced in time, on a clock that only goes on where somebody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from lqmf_runner.engine.replicas.replica_set import ReplicaSet
from lqmf_runner.errors import (
    LqmfError,
)
from lqmf_runner.types import GenerationRequest, SamplingParams

from .paced import Starts
from .scripted import Fail, Say, ScriptedEngine, run_virtual

Test = Callable[[ReplicaSet, Starts], Coroutine[Any, Any, None]]


def run(test: Test, *, count: int = 2, source: Starts | None = None) -> None:
    """Run a test with a set of its own, after which nothing may be left."""

    async def go(clock: Callable[[], float]) -> None:
        starts = source or Starts()
        replicas = await ReplicaSet.start("m", starts, count)
        await test(replicas, starts)
        await replicas.close()
        assert all(engine.closed for _, engine in starts.engines)
        assert not any(engine.running for _, engine in starts.engines)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(go)


def ask(prompt: str = "hello", tokens: int = 10) -> GenerationRequest:
    return GenerationRequest(prompt=prompt, sampling=SamplingParams(max_tokens=tokens))


async def streamed(replicas: ReplicaSet, request: GenerationRequest) -> str:
    return "".join([chunk.text async for chunk in replicas.generate(request)])


def states(replicas: ReplicaSet) -> list[str]:
    return [replica.state for replica in replicas.replicas()]


def failing(error: LqmfError, *, times: int) -> Callable[[], ScriptedEngine]:
    """The first engine fails its first requests, all others answer."""
    made = iter([lambda n, _: [Fail(0.01, error)] if n < times else [Say(0.01, "ok")]])

    def make() -> ScriptedEngine:
        return ScriptedEngine(next(made, lambda *_: [Say(0.01, "ok")]))

    return make
