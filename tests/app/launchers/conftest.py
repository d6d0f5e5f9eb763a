"""Sweeps over an endpoint that answers at once, or when it is let."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.engine.endpoint import RecordingEndpoint, configure, serve
from tests.support.ray_nodes import RayNodes, running_ray

Start = Callable[..., subprocess.Popen[str]]


class Gate:
    """`asked` is set by the first request; requests wait for `open`."""

    def __init__(self) -> None:
        self.asked, self.open = threading.Event(), threading.Event()
        self.open.set()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def endpoint(gate: Gate) -> Iterator[RecordingEndpoint]:
    """A server that answers when the gate is open."""

    def answer(_: str) -> str:
        gate.open.wait(120)
        return "Paris."

    with serve(answer) as endpoint:
        endpoint.on_asked = lambda _: gate.asked.set()
        yield endpoint
        gate.open.set()


@pytest.fixture
def start(tmp_path: Path, endpoint: RecordingEndpoint) -> Start:
    """Start `-m mode=benchmark` with models a and b, which answer, and c, which nobody serves."""
    configure(tmp_path / "own", a=endpoint.url, b=endpoint.url, c="http://127.0.0.1:9/v1")

    def run(*args: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("LQMF_", "HYDRA_", "RAY_"))}
        clean |= {"PYTHONPATH": str(Path(__file__).parents[3]), "NO_PROXY": "127.0.0.1", "COLUMNS": "120"}
        command = [
            sys.executable, "-m", "lqmf_runner", "-m", "mode=benchmark", "--config-dir", "own", "mode.concurrency=[1]",
            "mode.requests=2", "mode.warmup=0", *args,
        ]  # fmt: skip
        return subprocess.Popen(
            command,
            cwd=tmp_path,
            env=clean | (env or {}),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return run


@pytest.fixture(scope="package")
def ray_nodes() -> Iterator[RayNodes]:
    """A cluster with the nodes left and right, of one core each."""
    with running_ray() as nodes:
        nodes.add("left", 1, "zone=left")
        nodes.add("right", 1, "zone=right")
        yield nodes
