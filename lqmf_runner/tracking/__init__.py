"""Tracking: sends a run's folder to MLflow. A stand-in with the same interface does nothing, if tracking is off.

The folder is complete before anything is sent, so that a server that is down, refuses or hangs costs only the sending:
`python -m lqmf_runner.tracking <run folder>` does it later. MLflow is imported in a child process with a deadline;
the process that measures never holds it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import msgspec

from ..config import TrackingConfig
from ..errors import TrackingError, UserInputError
from ..redaction import redact_text
from ..results.history import PastRun

TIMEOUT_S = 60
URI_VARIABLE = "MLFLOW_TRACKING_URI"
EXPERIMENT_VARIABLE = "MLFLOW_EXPERIMENT_NAME"


class Tracker(Protocol):
    """Where runs are kept for comparison."""

    def send(self, folder: Path) -> str | None:
        """Send a finished run's folder; returns the id it got, and writes it to the folder's results.json.

        Raises:
            TrackingError: it could not be sent. The folder is as it was.
        """


class NullTracker:
    """Keeps nothing."""

    def send(self, folder: Path) -> None:
        """Do nothing."""


class MlflowTracker:
    """MLflow: a SQLite file, a folder of artifacts beside it, or a server."""

    def __init__(self, config: TrackingConfig, *, timeout_s: int = TIMEOUT_S) -> None:
        self._config = config
        self._timeout_s = timeout_s

    def send(self, folder: Path) -> str:
        """Send in a child process; see `Tracker.send`."""
        return _run_child(self._config, self._timeout_s, str(folder)).split()[-1]

    def fetch(self, run_id: str, folder: Path) -> None:
        """Bring the results of a run, named by its id or the beginning of it, into a folder.

        Raises:
            UserInputError: there is no such run.
            TrackingError: MLflow cannot be reached.
        """
        _run_child(self._config, self._timeout_s, str(folder), "--fetch", run_id)


def read_history(config: TrackingConfig, *, most: int = 2000, timeout_s: int = TIMEOUT_S) -> list[PastRun]:
    """The newest runs of models, newest first, read in a child process.

    Raises:
        TrackingError: they cannot be read.
    """
    path = config.uri.removeprefix("sqlite:///")
    if path != config.uri and not Path(path).exists():
        return []  # MLflow would make an empty store
    return msgspec.json.decode(_run_child(config, timeout_s, "--runs", str(most)), type=list[PastRun])


def _run_child(config: TrackingConfig, timeout_s: int, *words: str) -> str:
    """Run this package as a program; returns what it prints.

    Raises:
        UserInputError: what it was asked for is not there.
        TrackingError: it failed, or took too long.
    """
    command = [
        sys.executable, "-m", __name__, *words,
        "--artifacts", config.artifacts, "--experiment", config.experiment, "--timeout", str(timeout_s),
    ]  # fmt: skip
    package_root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([package_root, *filter(None, [os.environ.get("PYTHONPATH")])])
    # The URI may hold a password, and a command line is there for everyone to see.
    environment = {**os.environ, URI_VARIABLE: config.uri, "PYTHONPATH": path}
    try:
        child = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout_s + 10, check=False
        )
    except subprocess.TimeoutExpired:
        raise TrackingError(f"{redact_text(config.uri)} did not answer in {timeout_s} s") from None
    except OSError as error:
        raise TrackingError(f"the sender could not be started: {error}") from None
    if child.returncode != 0:
        kind = UserInputError if child.returncode == UserInputError.exit_code else TrackingError
        raise kind(_said(child.stderr, "error: ") or "the sender failed", hint=_said(child.stderr, "hint: "))
    return child.stdout


def _said(text: str, mark: str) -> str:
    """The last line that begins with the mark, without it; empty if none does."""
    lines = [line for line in text.splitlines() if line.startswith(mark)]
    return lines[-1].removeprefix(mark) if lines else ""


def create_tracker(config: TrackingConfig) -> Tracker:
    """The tracker that the configuration asks for."""
    return MlflowTracker(config) if config.enabled else NullTracker()


def send_later_command(folder: Path, config: TrackingConfig) -> str:
    """The command that sends a run's folder; a password in the URI is not shown."""
    relative = os.path.relpath(folder)
    words = ["python", "-m", "lqmf_runner.tracking", str(folder) if relative.startswith("..") else relative]
    default = TrackingConfig()
    for option, value, usual in (
        ("--uri", config.uri, os.environ.get(URI_VARIABLE, default.uri)),
        ("--artifacts", config.artifacts, default.artifacts),
        ("--experiment", config.experiment, os.environ.get(EXPERIMENT_VARIABLE, default.experiment)),
    ):
        if value != usual:
            words += [option, redact_text(value)]
    return shlex.join(words)
