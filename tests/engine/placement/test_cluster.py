"""The life of a cluster: joined with a token, or started for this process alone and ended with it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from ...conftest import Run
from ...support.ray_nodes import RayNodes

ROOT = Path(__file__).resolve().parents[3]
LOOPBACK = ("127.0.0.1", "::ffff:127.0.0.1", "::1")
needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is not installed: pip install 'lqmf-runner[ray]'"
)
RUN = ["mode=chat", "model=local", "mode.message=hi", "tracking=none", "placement=ray"]


def own_environment(**more: str) -> dict[str, str]:
    """Without what the cluster of other tests has set."""
    return {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | more


def test_without_placement_no_ray_is_imported(tiny: Path) -> None:
    program = f"""
import asyncio, sys
from lqmf_runner.engine import load_engine
from lqmf_runner.types import ModelSpec
import lqmf_runner.engine.placement, lqmf_runner.app.hydra, lqmf_runner.server.launch
async def main():
    async with await load_engine(ModelSpec(name="t", format="gguf", path={str(tiny)!r})):
        print("ray" in sys.modules)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_an_address_that_nobody_answers_is_one_line_within_seconds(run_program: Run, tiny: Path) -> None:
    done = run_program(*RUN, f"model.path={tiny}", "ray.address=127.0.0.1:1")
    assert done.returncode == 1
    assert "error: no Ray cluster answers at 127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "says", [b"", b"HTTP/1.1 505 HTTP Version Not Supported\r\n\r\n"], ids=["nothing", "HTTP 1"]
)
def test_a_port_of_something_else_is_said_within_seconds(run_program: Run, tiny: Path, says: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def answer() -> None:
            with listener.accept()[0] as sock, contextlib.suppress(ConnectionError):
                sock.sendall(says)
                while sock.recv(100):
                    pass

        threading.Thread(target=answer, daemon=True).start()
        began = time.monotonic()
        done = run_program(*RUN, f"model.path={tiny}", f"ray.address={address}")
    assert time.monotonic() - began < 20  # Ray tries for 45 s
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: no Ray cluster answers at {address}: ")
    assert len(done.stderr.splitlines()) == 2


def test_a_missing_ray_is_said_with_the_command(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'ray'\")")
    done = subprocess.run(
        [sys.executable, "-m", "lqmf_runner", *RUN, f"model.path={tiny}"], cwd=tmp_path, text=True,
        capture_output=True, env=own_environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}"), timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "placement=ray needs Ray, which is not installed" in done.stderr
    assert "pip install -e '.[ray]'" in done.stderr


def test_a_wrong_token_is_said(cluster: RayNodes, tiny: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "lqmf_runner", *RUN, f"model.path={tiny}", f"ray.address={cluster.address}"],
        cwd=tmp_path, text=True, capture_output=True, timeout=60,
        env=own_environment(PYTHONPATH=str(ROOT), RAY_AUTH_TOKEN="0" * 64),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: the cluster at {cluster.address} does not let this program in")
    assert len(done.stderr.splitlines()) == 2
    assert time.monotonic() - began < 15  # Ray tries for 21 s


@needs_ray
@pytest.mark.parametrize("end", ["exits", "is killed"])
def test_a_cluster_of_our_own_stays_on_loopback_and_ends_with_us(
    tiny: Path, tmp_path: Path, end: str
) -> None:
    program = f"""
import asyncio, os, sys
from lqmf_runner.engine import load_engine
from lqmf_runner.types import Cluster, ModelSpec, Placement
async def main():
    where = Placement(kind="ray", cluster=Cluster(), memory_mb=300.0)
    async with await load_engine(ModelSpec(name="t", format="gguf", path={str(tiny)!r}, placement=where)):
        print(os.environ["RAY_TMPDIR"], flush=True)
        sys.stdin.readline()
asyncio.run(main())
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=own_environment(PYTHONPATH=str(ROOT)),
    )  # fmt: skip
    agents: list[psutil.Process] = []
    left: list[psutil.Process] = []
    try:
        assert parent.stdout is not None
        folder = Path(parent.stdout.readline().strip())
        family = psutil.Process(parent.pid).children(recursive=True)
        # Nobody is there to end Ray's agents after a kill: they look for their head for a minute or so.
        agents = [process for process in family if end == "is killed" and "Agent" in process.name()]
        assert len(family) > 3
        heard = [c.laddr.ip for p in [psutil.Process(parent.pid), *family] for c in listening(p)]
        assert heard
        assert set(heard) <= set(LOOPBACK)
        assert folder.stat().st_mode & 0o777 == 0o700
        if end == "exits":
            parent.communicate("\n", timeout=60)
            assert not folder.exists()
        else:
            parent.send_signal(signal.SIGKILL)
            parent.wait()
        _, left = psutil.wait_procs(set(family) - set(agents), 10)
        assert left == []
    finally:
        parent.kill()
        parent.communicate()
        for process in [*agents, *left]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def listening(process: psutil.Process) -> list[Any]:
    try:
        return [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    except psutil.Error:
        return []
