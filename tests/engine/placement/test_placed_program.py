"""A program that serves a model on a node that was chosen for it; a real process stands for vLLM."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from lqmf_runner.engine import load_engine
from lqmf_runner.errors import (
    DoesNotFitError,
    EngineLostError,
    LqmfError,
    MissingDependencyError,
    UserInputError,
)
from lqmf_runner.formats.vllm import VllmBackend
from lqmf_runner.types import Cluster, GenerationRequest, Message, ModelSpec, Placement

from ...support.processes import command, wait_until_gone
from ...support.ray_nodes import RayNodes

STAND_IN = [sys.executable, "-m", "tests.support.engine.program", "serve"]


def spec(
    cluster: RayNodes,
    folder: Path,
    *,
    settings: dict[str, Any] | None = None,
    placement: Any = None,
    **options: Any,
) -> ModelSpec:
    backend = VllmBackend(**{"command": STAND_IN, "load_timeout_s": 60.0, **options})
    joined = Cluster(address=cluster.address, **(settings or {}))
    where = Placement(kind="ray", cluster=joined, files="path", **{"memory_mb": 300.0, **(placement or {})})
    return ModelSpec(name="m", format="vllm", path=str(folder), options=asdict(backend), placement=where)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def started(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "started.json").read_text()))


async def ask(engine: Any) -> str:
    request = GenerationRequest(messages=[Message(role="user", content="hello")])
    return str((await engine.complete(request)).text)


async def test_it_is_started_on_a_node_asked_measured_and_ended(cluster: RayNodes, folder: Path) -> None:
    engine = await load_engine(spec(cluster, folder, placement={"labels": ("zone=a",)}))
    there = started(folder)
    try:
        assert engine.place == "n1"
        assert await ask(engine) == "you said hello"
        own = psutil.Process(there["program"]).memory_info().rss / 1e6
        assert (await engine.memory()).rss_mb > own
        environment = psutil.Process(there["program"]).environ()
        assert environment["CUDA_VISIBLE_DEVICES"] == ""
        assert "RAY_AUTH_TOKEN" not in environment
    finally:
        await engine.close()
    wait_until_gone(there["program"], there["child"])


async def test_one_that_ends_while_it_loads_says_why_and_where(cluster: RayNodes, folder: Path) -> None:
    with pytest.raises(EngineLostError, match=r"'m' on node n\d ended .*it did not load: CUDA out of memory"):
        await load_engine(spec(cluster, folder, flags={"fail": True}))


async def test_one_that_is_not_installed_on_the_node_is_one_line(cluster: RayNodes, folder: Path) -> None:
    with pytest.raises(MissingDependencyError, match=r"vLLM is not installed on node n\d: .*'no-such-vllm'"):
        await load_engine(spec(cluster, folder, command=["no-such-vllm", "serve"]))


async def test_what_fits_nowhere_and_what_tls_would_not_cover_is_refused(
    cluster: RayNodes, folder: Path
) -> None:
    with pytest.raises(DoesNotFitError, match=r"2 GPUs.*n1 \("):
        await load_engine(spec(cluster, folder, placement={"num_gpus": 2.0}))
    with pytest.raises(UserInputError, match=r"ray\.tls does not cover 'm'"):
        await load_engine(spec(cluster, folder, settings={"tls": True}))


@pytest.mark.parametrize("what", ["program", "actor"])
async def test_a_loss_is_noticed_and_nothing_is_left(cluster: RayNodes, folder: Path, what: str) -> None:
    engine = await load_engine(spec(cluster, folder))
    lost: asyncio.Future[LqmfError] = asyncio.get_running_loop().create_future()
    engine.on_lost = lost.set_result
    there = started(folder)
    try:
        ancestors = psutil.Process(there["program"]).parents()
        actor = next(p for p in ancestors if " ".join(command(p)).startswith("ray::"))
        os.kill(there["program"] if what == "program" else actor.pid, signal.SIGKILL)
        error = await asyncio.wait_for(lost, 20)
        assert "on node" in str(error) if what == "program" else "is lost" in str(error)
    finally:
        await engine.close()
    wait_until_gone(there["program"], there["child"])


async def test_replicas_of_a_program_are_as_many_programs(cluster: RayNodes, folder: Path) -> None:
    two = {"replicas": 2, "labels": ("zone=b",)}
    async with await load_engine(spec(cluster, folder, placement=two)) as engine:
        assert {replica.place for replica in engine.replicas()} == {"n2", "n3"}
        assert await ask(engine) == "you said hello"
