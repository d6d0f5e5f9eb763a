"""The process of a worker: what it gets from this one's environment."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess

import psutil
import pytest

from lqmf_runner.engine import process as engine_process
from lqmf_runner.engine.process import LocalProcess


async def test_a_worker_gets_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that comes with a model could read them."""
    secrets = ("HF_TOKEN", "OPENAI_API_KEY", "LQMF_API_KEYS", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_URI")
    for name in secrets:
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("HF_HOME", "/models/hub")
    ours, theirs = socket.socketpair()
    with theirs:
        process = LocalProcess(theirs, 1)
    worker = psutil.Process(process.pid)
    while not (environment := worker.environ()):  # noqa: ASYNC110 (empty until the kernel has set up the program)
        await asyncio.sleep(0)
    ours.close()
    await process.close()
    assert environment["HF_HOME"] == "/models/hub"
    assert "s3cret" not in environment.values()


async def test_a_worker_that_does_not_end_when_it_is_killed_is_given_up_and_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as one that waits for a device. Here nothing is sent to it, and its connection stays open."""
    monkeypatch.setattr(engine_process, "_CLOSE_TIMEOUT_S", 0.01)
    monkeypatch.setattr(engine_process, "_KILL_TIMEOUT_S", 0.01)
    ours, theirs = socket.socketpair()
    with theirs:
        process = LocalProcess(theirs, 1)
    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
        patched.setattr(subprocess.Popen, "kill", lambda self: None)
        async with asyncio.timeout(5):
            await process.close()
    assert f"the worker process {process.pid} has not ended" in caplog.text
    ours.close()
    psutil.Process(process.pid).kill()
    await process.wait()
