"""Tracking: sends a run's folder to MLflow. A stand-in with the same interface does nothing, if tracking is off.

The folder is complete before anything is sent, so that a server that is down, refuses or hangs costs only the sending.
`python -m lqmf_runner.tracking <run folder>` does it later, and `mode=history mode.send=true` for all runs. MLflow is
imported in a child process with a deadline; the process that measures never holds it.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from ..config import TrackingConfig
from ..errors import MissingDependencyError, TrackingError, UserInputError
from ..install import install_line
from ..redaction import redact_text
from ..results.history import PastRun

TIMEOUT_S = 60
URI_VARIABLE = "MLFLOW_TRACKING_URI"
EXPERIMENT_VARIABLE = "MLFLOW_EXPERIMENT_NAME"
# Made here, not where it is used: see `results/files.py`.
_past_runs = msgspec.json.Decoder(list[PastRun])


Say = Callable[[str], None]
"""Called with one line, where the user has to know something about a run that was sent."""


def say_nothing(note: str) -> None:
    """Ignores the line."""


class Tracker(Protocol):
    """Stores runs for comparison."""

    def send(self, folder: Path, say: Say = say_nothing) -> str | None:
        """Send a finished run's folder; returns the id it got, and writes it to the folder's results.json.

        Raises:
            TrackingError: it could not be sent. The folder is as it was.
        """


class NullTracker:
    """Stores nothing."""

    def send(self, folder: Path, say: Say = say_nothing) -> None:
        """Do nothing."""


class MlflowTracker:
    """MLflow: a SQLite file with a folder of artifacts, a PostgreSQL database, or a server."""

    def __init__(self, config: TrackingConfig, *, timeout_s: int = TIMEOUT_S) -> None:
        self._config = config
        self._timeout_s = timeout_s

    def send(self, folder: Path, say: Say = say_nothing) -> str:
        """Send in a child process; see `Tracker.send`."""
        return run_child(self._config, self._timeout_s, str(folder), say=say).split()[-1]

    def send_all(self, folders: Sequence[Path]) -> None:
        """Send several folders in one child process, in this order. Those that are no runs are left out.

        Raises:
            TrackingError: one could not be sent, and those after it were not tried.
        """
        if folders:
            run_child(self._config, self._timeout_s, *map(str, folders), several=len(folders))

    def fetch(self, run_id: str, folder: Path) -> None:
        """Bring the results of a run, named by its id or the beginning of it, into a folder.

        Raises:
            UserInputError: there is no such run.
            TrackingError: MLflow cannot be reached.
        """
        run_child(self._config, self._timeout_s, str(folder), "--fetch", run_id)


def read_history(config: TrackingConfig, *, most: int = 2000, timeout_s: int = TIMEOUT_S) -> list[PastRun]:
    """The newest runs of models, newest first, read in a child process.

    Raises:
        TrackingError: they cannot be read.
    """
    path = config.uri.removeprefix("sqlite:///")
    if path != config.uri and not Path(path).exists():
        return []  # MLflow would make an empty store
    return _past_runs.decode(run_child(config, timeout_s, "--runs", str(most)))


def run_child(
    config: TrackingConfig, timeout_s: int, *words: str, several: int = 1, say: Say = say_nothing
) -> str:
    """Run this package as a program; returns what it prints. For the modules of this package.

    Args:
        timeout_s: of one folder; `several` have as much each.
        say: gets what it says about where a run went.

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
    # The URI may contain a password, and all users can read command lines.
    environment = {**os.environ, URI_VARIABLE: config.uri, "PYTHONPATH": path}
    try:
        child = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=several * timeout_s + 10,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TrackingError(f"{redact_text(config.uri)} did not answer in {timeout_s} s") from None
    except OSError as error:
        raise TrackingError(f"the sender could not be started: {error}") from None
    if child.returncode != 0:
        kind = UserInputError if child.returncode == UserInputError.exit_code else TrackingError
        said = _said(child.stderr, "error: ") or _last_words(child)
        raise kind(said, hint=_said(child.stderr, "hint: "))
    if note := _said(child.stderr, "note: "):
        say(note)
    return child.stdout


def _said(text: str, mark: str) -> str:
    """The last line that begins with the mark, without it; empty if none does."""
    lines = [line for line in text.splitlines() if line.startswith(mark)]
    return lines[-1].removeprefix(mark) if lines else ""


def _last_words(child: subprocess.CompletedProcess[str]) -> str:
    """A description of the end of a sender that gave no reason itself."""
    lines = redact_text(child.stderr).split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"the sender ended with exit code {child.returncode}{f': {last[:200]}' if last else ''}"


def is_server(uri: str) -> bool:
    """Whether this is the address of an MLflow server, which chooses the place of artifacts."""
    return uri.startswith(("http://", "https://", "databricks"))


def is_postgres(uri: str) -> bool:
    """Whether this names a PostgreSQL database, with or without a driver: `postgresql+psycopg://`."""
    return uri.partition("://")[0].partition("+")[0] == "postgresql"


def check_driver(config: TrackingConfig) -> None:
    """Check before a run, not at its end, that the database driver is installed.

    Raises:
        MissingDependencyError: the package that does it is not installed.
    """
    driver = config.uri.partition("://")[0].partition("+")[2] or "psycopg"
    if config.enabled and is_postgres(config.uri) and importlib.util.find_spec(driver) is None:
        raise MissingDependencyError(
            f"tracking to PostgreSQL needs {driver}, which is not installed", hint=install_line("postgres")
        )


def create_tracker(config: TrackingConfig) -> Tracker:
    """The tracker that the configuration asks for."""
    return MlflowTracker(config) if config.enabled else NullTracker()


def send_later_command(folder: Path, config: TrackingConfig) -> str:
    """The command that sends a run's folder, or a folder of runs; a password in the URI is not shown."""
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
