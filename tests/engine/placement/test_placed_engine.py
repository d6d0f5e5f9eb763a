"""Workers on the nodes of a real cluster: the same answers as here, and every loss is noticed and leaves nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from lqmf_runner.engine import EngineClient, load_engine
from lqmf_runner.engine.placement import placed_engine, placed_host
from lqmf_runner.engine.placement.placed_engine import PlacedEngine
from lqmf_runner.errors import (
    DoesNotFitError,
    EngineLostError,
    LqmfError,
    ModelNotFoundError,
    ModelUnusableError,
    UserInputError,
)
from lqmf_runner.models.version import content_version
from lqmf_runner.types import GenerationRequest, ModelSpec, Placement, SamplingParams

from ...support.ray_nodes import RayNodes
from .conftest import placed

GONE_S = 20


def request(n: int | None, prompt: str = "once") -> GenerationRequest:
    return GenerationRequest(
        prompt=prompt, sampling=SamplingParams(max_tokens=n, temperature=0, ignore_eos=True, logprobs=1)
    )


@asynccontextmanager
async def started(spec: ModelSpec) -> AsyncIterator[PlacedEngine]:
    engine = await load_engine(spec)
    assert isinstance(engine, PlacedEngine)
    async with engine:
        yield engine


async def facts(engine: EngineClient) -> tuple[object, ...]:
    """What an engine says of the same questions, without times."""
    answers = await asyncio.gather(*(engine.complete(request(20, f"story {i}")) for i in range(3)))
    score = await engine.score("once upon a time", top=2)
    options = await engine.option_logprobs(request(1), [["a"], ["b"]])
    tokens = await engine.tokenize("once upon")
    texts = [(answer.text, answer.token_ids, answer.logprobs) for answer in answers]
    return texts, score, options.logprobs, tokens, await engine.detokenize(tokens)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_placed_worker_answers_as_a_local_one(cluster: RayNodes, tiny: Path, tls: bool) -> None:
    here = placed(cluster, tiny)
    here = msgspec.structs.replace(here, placement=Placement(), options={**here.options, "n_threads": 1})
    async with await load_engine(here) as local, started(placed(cluster, tiny, settings={"tls": tls})) as far:
        assert await facts(far) == await facts(local)
        assert far.place in ("n1", "n2", "n3")
        assert local.place == ""
        assert (await far.memory()).rss_mb > 10
        assert (await far.stats()).requests == (await local.stats()).requests


async def test_a_worker_has_the_threads_of_its_cores(cluster: RayNodes, tiny: Path) -> None:
    async with started(placed(cluster, tiny, num_cpus=2.0)) as engine:
        environment = psutil.Process(engine.pid).environ()
        assert environment["OMP_NUM_THREADS"] == "2"
        assert environment["CUDA_VISIBLE_DEVICES"] == ""
        assert "RAY_AUTH_TOKEN" not in environment


async def test_an_answer_that_is_not_read_on_is_cancelled(spec: ModelSpec) -> None:
    async with started(spec) as engine:
        async with aclosing(engine.stream(request(None))) as stream:
            await anext(stream)
            assert (await engine.stats()).running == 1
        await engine.complete(request(1))  # a cancelled request leaves before the next step
        assert (await engine.stats()).running == 0


async def test_replicas_spread_over_the_nodes_with_the_label(cluster: RayNodes, tiny: Path) -> None:
    spec = placed(cluster, tiny, labels=("zone=b",))
    async with started(spec) as one, started(spec) as two:
        assert {one.place, two.place} == {"n2", "n3"}
    packed = placed(cluster, tiny, labels=("zone=b",), strategy="pack")
    async with started(packed) as one, started(packed) as two:
        assert one.place == two.place


async def keep_asking(engine: EngineClient, seconds: float) -> None:
    """Have a request in flight all the time; raises what one fails with."""
    async with asyncio.timeout(seconds):
        while True:
            await engine.complete(request(50))


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def kill_actor(pid: int) -> None:
    kill(psutil.Process(pid).ppid())


@pytest.mark.parametrize(
    ("end", "message"), [(kill, "on node .* killed"), (kill_actor, "node")], ids=["worker", "actor"]
)
async def test_a_killed_worker_or_actor_fails_its_requests_and_leaves_nothing(
    spec: ModelSpec, end: Callable[[int], None], message: str
) -> None:
    lost: list[LqmfError] = []
    async with started(spec) as engine:
        engine.on_lost = lost.append
        end(engine.pid)
        with pytest.raises(EngineLostError, match=message):
            await keep_asking(engine, 3)
        worker = engine.pid
    assert len(lost) == 1
    assert await asyncio.to_thread(gone, worker)


async def test_a_removed_node_fails_the_requests_of_its_workers(cluster: RayNodes, tiny: Path) -> None:
    cluster.add("going", 1, "zone=going")
    spec = placed(cluster, tiny, labels=("zone=going",))
    async with started(spec) as engine:
        removal = asyncio.create_task(asyncio.to_thread(cluster.remove, "going"))
        with pytest.raises(EngineLostError, match="node going"):
            await keep_asking(engine, 6)
        await removal
        worker = engine.pid
    assert await asyncio.to_thread(gone, worker)


async def test_a_worker_that_hangs_is_lost_after_five_seconds(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert placed_engine.SILENT_S == 5.0
    monkeypatch.setattr(placed_engine, "SILENT_S", 2.0)  # the test need not last as long
    async with started(spec) as engine:
        worker = engine.pid
        try:
            os.kill(worker, signal.SIGSTOP)
            with pytest.raises(EngineLostError, match="has not answered for 2 s"):
                await keep_asking(engine, 10)
        finally:
            await asyncio.to_thread(os.kill, worker, signal.SIGCONT)
    assert await asyncio.to_thread(gone, worker)


def gone(pid: int) -> bool:
    try:
        psutil.Process(pid).wait(GONE_S)
    except psutil.TimeoutExpired:
        return False
    except psutil.NoSuchProcess:
        pass
    return True


@pytest.mark.parametrize(
    ("placement", "words"),
    [
        ({"memory_mb": 9000.0}, ["9000 MB", "n1 (", "of 4000 MB"]),
        ({"num_cpus": 3.0}, ["3 cores", "of 2 cores"]),
        ({"num_gpus": 0.5}, ["0.5 GPUs", "0 of 0 GPUs"]),
        ({"labels": ("zone=c",)}, ["with zone=c", "n1 (other labels)"]),
    ],
)
async def test_what_fits_nowhere_is_refused_with_the_numbers_of_each_node(
    cluster: RayNodes, tiny: Path, placement: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(DoesNotFitError) as caught:
        await load_engine(placed(cluster, tiny, **placement))
    assert all(word in caught.value.message for word in words), caught.value.message
    assert "127.0.0.1" not in caught.value.message  # the head has no other name


async def test_files_that_a_node_lacks_are_named(cluster: RayNodes, tiny: Path, tmp_path: Path) -> None:
    missing = tmp_path / "nothing.gguf"
    with pytest.raises(ModelNotFoundError, match=r"node n\d does not have .*nothing.gguf"):
        await load_engine(placed(cluster, missing, files="path"))


async def test_other_files_on_a_node_are_refused(cluster: RayNodes, tiny: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    shutil.copy(tiny, other)
    with other.open("r+b") as file:  # as an older copy of the same model would be
        file.seek(-64, os.SEEK_END)
        file.write(b"\1" * 64)
    spec = msgspec.structs.replace(placed(cluster, other, files="path"), version=content_version(tiny))
    assert content_version(other) != spec.version
    with pytest.raises(ModelUnusableError, match=r"node n\d has another 'tiny'"):
        await load_engine(spec)


async def test_another_version_of_the_program_on_a_node_is_refused(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = placed_host.__version__
    monkeypatch.setattr(placed_host, "__version__", "99.0")
    with pytest.raises(UserInputError, match=rf"node n\d has lqmf-runner {there}, and this program is 99.0"):
        await load_engine(spec)


async def test_a_load_that_fails_or_is_given_up_holds_nothing(cluster: RayNodes, tiny: Path) -> None:
    whole = placed(cluster, tiny, num_cpus=2.0, labels=("zone=a",))
    slow = msgspec.structs.replace(whole, options={**whole.options, "load_timeout_s": 0.01})
    with pytest.raises(EngineLostError, match="did not load within"):
        await load_engine(slow)
    loading = asyncio.create_task(load_engine(whole))
    await asyncio.sleep(0.3)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    async with started(whole) as engine:  # Ray gives the cores back a moment after it has ended the actor
        assert engine.place == "n1"
