"""The process of a worker: what it gets from this one's environment."""

from __future__ import annotations

import asyncio
import socket

import psutil
import pytest

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
