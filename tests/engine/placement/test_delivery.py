"""Model files that a node does not have are sent to it, once for all of its workers.

The nodes of the test's cluster are processes of this machine. A path under /proc/self/cwd is another one for each.
"""

from __future__ import annotations

import asyncio
import logging
import os
import zlib
from pathlib import Path

import msgspec
import psutil
import pytest

from lqmf_runner.engine import EngineClient, load_engine
from lqmf_runner.engine.placement import delivery
from lqmf_runner.engine.placement.placed_engine import PlacedEngine
from lqmf_runner.errors import EngineLostError, ModelNotFoundError, ModelUnusableError
from lqmf_runner.models.version import content_version
from lqmf_runner.types import GenerationRequest, SamplingParams

from ...support.models.tiny import make_gguf
from ...support.ray_nodes import RayNodes
from .conftest import placed


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A model that no other test uses, under a path that only this process knows it by."""
    make_gguf(tmp_path / "tiny.gguf", seed=zlib.crc32(request.node.name.encode()) % 1000)
    monkeypatch.chdir(tmp_path)
    return Path("/proc/self/cwd/tiny.gguf")


async def answer(engine: EngineClient) -> str:
    sampling = SamplingParams(max_tokens=5, temperature=0, ignore_eos=True)
    return (await engine.complete(GenerationRequest(prompt="once", sampling=sampling))).text


def size_mb(file: Path) -> float:
    return file.stat().st_size / 1e6


def open_file(engine: EngineClient) -> str:
    """The model's file as the worker has it mapped."""
    assert isinstance(engine, PlacedEngine)
    return next(m.path for m in psutil.Process(engine.pid).memory_maps() if m.path.endswith(".gguf"))


def sent(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == delivery.log.name]


async def test_a_node_without_the_files_gets_them_once(
    cluster: RayNodes, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, delivery.log.name)
    spec = placed(cluster, model, labels=("zone=a",), num_cpus=0.5)
    shares: list[float] = []
    async with await load_engine(spec, shares.append) as first, await load_engine(spec) as second:
        assert await answer(first) == await answer(second)
        assert open_file(first) == open_file(second)
        assert "lqmf-runner/models/" in open_file(first)
    assert len(sent(caplog)) == 1
    assert shares == sorted(shares)
    assert 0.5 in shares
    assert shares[-1] == 1


async def test_replicas_that_start_together_wait_for_one_copy(
    cluster: RayNodes, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, delivery.log.name)
    spec = placed(cluster, model, labels=("zone=a",), num_cpus=0.5, replicas=3)
    async with await load_engine(spec) as engine:
        assert await answer(engine)
    assert len(sent(caplog)) == 1


async def test_files_that_are_there_are_used_where_they_are(
    cluster: RayNodes, tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, delivery.log.name)
    async with await load_engine(placed(cluster, tiny)) as engine:
        assert open_file(engine) == str(tiny)
    assert not sent(caplog)


async def test_a_draft_model_is_sent_too(
    cluster: RayNodes, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, delivery.log.name)
    make_gguf(tmp_path / "small.gguf", seed=4711)
    spec = placed(cluster, model, labels=("zone=a",), num_cpus=0.5)
    options = {**spec.options, "batch_invariant": False, "draft_model": "/proc/self/cwd/small.gguf"}
    async with await load_engine(msgspec.structs.replace(spec, options=options)) as engine:
        assert engine.info.draft_model
        assert await answer(engine)
        assert isinstance(engine, PlacedEngine)
        files = {m.path for m in psutil.Process(engine.pid).memory_maps() if m.path.endswith(".gguf")}
        assert {Path(file).name for file in files} == {"tiny.gguf", "small.gguf"}
        assert all("lqmf-runner/models/" in file for file in files)
    assert len(sent(caplog)) == 2


async def test_files_can_be_sent_though_the_path_is_there(cluster: RayNodes, tiny: Path) -> None:
    async with await load_engine(placed(cluster, tiny, files="send")) as engine:
        assert "lqmf-runner/models/" in open_file(engine)


async def test_other_files_under_the_path_are_not_taken_for_the_model(cluster: RayNodes, model: Path) -> None:
    spec = msgspec.structs.replace(placed(cluster, model), version=content_version(model))
    async with await load_engine(spec) as engine:
        assert "lqmf-runner/models/" in open_file(engine)


async def test_a_path_that_is_asked_for_must_be_there(cluster: RayNodes, model: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"node n\d does not have the files of 'tiny'") as caught:
        await load_engine(placed(cluster, model, files="path"))
    assert "/" not in caught.value.message
    assert "placement.files" in caught.value.hint


async def test_what_is_damaged_is_not_sent(cluster: RayNodes, model: Path) -> None:
    os.truncate(model, 100)
    with pytest.raises(ModelUnusableError):
        await load_engine(placed(cluster, model))


async def test_a_load_that_is_given_up_while_files_are_sent_is_resumed(
    cluster: RayNodes, model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(delivery, "_PIECE", 4096)
    spec = placed(cluster, model, labels=("zone=a",), num_cpus=2.0)
    begun = asyncio.Event()

    def on_progress(share: float) -> None:
        if share > 0.1:
            begun.set()

    loading = asyncio.create_task(load_engine(spec, on_progress))
    async with asyncio.timeout(60):
        await begun.wait()
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    shares: list[float] = []
    async with await load_engine(spec, shares.append) as engine:
        assert await answer(engine)
    assert shares[0] > 0.05  # half of a load is the sending


async def test_a_node_that_leaves_while_files_are_sent_is_said(
    cluster: RayNodes, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_PIECE", 64)
    cluster.add("leaving", 1, "zone=leaving")
    begun = asyncio.Event()
    loading = asyncio.create_task(
        load_engine(placed(cluster, model, labels=("zone=leaving",)), lambda share: begun.set())
    )
    async with asyncio.timeout(60):
        await begun.wait()
    await asyncio.to_thread(cluster.remove, "leaving")
    with pytest.raises(EngineLostError, match="node leaving with 'tiny' is lost"):
        await loading


async def test_a_node_deletes_copies_beyond_the_limit_but_none_that_a_worker_uses(
    cluster: RayNodes, model: Path
) -> None:
    paths: list[Path] = []
    specs = []
    for number in range(3):
        make_gguf(model.with_name(f"{number}.gguf"), seed=5000 + number)
        place = Path(f"/proc/self/cwd/{number}.gguf")
        limit = {"cache_mb": 1.5 * size_mb(place)}
        specs.append(placed(cluster, place, labels=("zone=a",), num_cpus=0.5, settings=limit))
    async with await load_engine(specs[0]) as first:
        paths.append(Path(open_file(first)))
        async with await load_engine(specs[1]) as second:
            paths.append(Path(open_file(second)))
        async with await load_engine(specs[2]) as third:
            paths.append(Path(open_file(third)))
            assert [path.exists() for path in paths] == [True, False, True]
            assert await answer(first)
    async with await load_engine(specs[1]) as again:
        assert open_file(again) == str(paths[1])
        assert [path.exists() for path in paths] == [False, True, False]
