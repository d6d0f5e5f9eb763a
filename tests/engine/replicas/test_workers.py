"""Replicas as real processes with a tiny model."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import psutil
import pytest

from lqmf_runner.engine import EngineClient, load_engine
from lqmf_runner.engine.replicas.replica_set import ReplicaSet
from lqmf_runner.errors import EngineLostError
from lqmf_runner.types import GenerationRequest, ModelSpec, Placement, SamplingParams

from ...support.models.tiny import make_gguf
from ...support.processes import command


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    path = make_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")
    return ModelSpec(
        name="tiny", format="gguf", path=str(path), options={"max_slots": 4}, placement=Placement(replicas=2)
    )


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "lqmf_runner.engine.worker" in command(child)]


def request(n: int, prompt: str = "once") -> GenerationRequest:
    return GenerationRequest(
        prompt=prompt, sampling=SamplingParams(max_tokens=n, temperature=0, ignore_eos=True)
    )


async def streamed(engine: EngineClient, n: int, prompt: str) -> int:
    return sum([len(chunk.token_ids) async for chunk in engine.generate(request(n, prompt))])


async def test_workers_compute_on_cores_of_their_own_and_give_the_same_answers(spec):
    async with await load_engine(spec) as engine:
        assert isinstance(engine, ReplicaSet)
        assert [replica.place for replica in engine.replicas()] == ["this machine"] * 2
        main_threads = [set(os.sched_getaffinity(worker.pid)) for worker in workers()]
        if len(os.sched_getaffinity(0)) >= 2:
            assert not set.intersection(*main_threads)
        answers = await asyncio.gather(*(engine.complete(request(8)) for _ in range(4)))
        assert len({answer.text for answer in answers}) == 1
        assert all(replica.requests == 2 for replica in engine.replicas())
        assert (await engine.memory()).rss_mb == pytest.approx(
            sum(worker.memory_info().rss for worker in workers()) / 1e6, rel=0.2
        )
        assert len(await engine.tokenize("once upon")) >= 2
        assert (await engine.score("once upon a time")).logprobs
    assert not workers()


async def test_a_killed_worker_costs_only_what_it_had_sent_and_comes_back(spec):
    async with await load_engine(spec) as engine:
        fine = asyncio.gather(*(streamed(engine, 30, f"{n}") for n in range(12)), return_exceptions=True)
        await asyncio.sleep(0)
        whole = asyncio.gather(*(engine.complete(request(30, f"w{n}")) for n in range(8)))
        victim = workers()[0]
        while not all(r.output_tokens for r in engine.replicas()):  # noqa: ASYNC110 (a process is waited for)
            await asyncio.sleep(0.001)
        os.kill(victim.pid, signal.SIGKILL)
        killed_at = time.monotonic()
        results = await fine
        assert all(result == 30 or isinstance(result, EngineLostError) for result in results)
        assert time.monotonic() - killed_at < 3
        assert [answer.usage.completion_tokens for answer in await whole] == [30] * 8
        async with asyncio.timeout(20):
            while [r.state for r in engine.replicas()] != ["ready", "ready"]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert await streamed(engine, 5, "again") == 5
    assert not workers()
