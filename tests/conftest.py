"""What every test can use: the program as a user runs it, and composed configurations."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from lqmf_runner.app.compose import to_run_config
from lqmf_runner.app.conf import conf_dir
from lqmf_runner.app.hydra import register_schemas
from lqmf_runner.config import RunConfig

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs so, and what they start inherits it: tests of Ctrl-C would find none.
    signal.signal(signal.SIGINT, signal.default_int_handler)

Run = Callable[..., subprocess.CompletedProcess[str]]
Compose = Callable[..., RunConfig]


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """Leave the environment as it was: `mlflow.set_tracking_uri`, for one, writes a variable that configs read."""
    before = dict(os.environ)
    yield
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def run_program(tmp_path: Path) -> Run:
    """Run `python -m lqmf_runner` with arguments in an empty folder."""

    def run(
        *args: str, env: dict[str, str] | None = None, stdout: int = subprocess.PIPE
    ) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("LQMF_", "HYDRA_"))}
        clean |= {"COLUMNS": "120", **(env or {})}
        return subprocess.run(
            [sys.executable, "-m", "lqmf_runner", *args],
            cwd=tmp_path, env=clean, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip

    return run


@pytest.fixture
def closed_pipe() -> Iterator[int]:
    """A pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.fixture
def compose_config() -> Iterator[Compose]:
    """Compose `conf/` with overrides into the frozen objects a mode gets."""
    register_schemas()
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        yield lambda *overrides: to_run_config(compose("config", overrides=list(overrides)))
