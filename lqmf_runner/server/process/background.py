"""server.background=true: start the same command in a separate process, and return once it is ready."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ...errors import LqmfError
from .announcement import READY_VARIABLE

LOG_NAME = "server.log"
_END_TIMEOUT_S = 15.0
_TAIL_LINES = 20


def start_in_background(args: Sequence[str], run_dir: Path) -> int:
    """Start the server that these arguments describe, detached, and wait until it is ready.

    Prints what the server announces. It writes to `server.log` in the run's folder and lives on when the terminal
    is closed.

    Args:
        args: the command line of this process, without the program.

    Returns:
        0, or the exit code of a server that ended before it was ready, whose error is printed.
    """
    log_path = run_dir / LOG_NAME
    ready, theirs = os.pipe()
    try:
        with open(log_path, "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "lqmf_runner", *_foreground(args, run_dir)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, READY_VARIABLE: str(theirs)},
                pass_fds=[theirs],
                start_new_session=True,
            )
    finally:
        os.close(theirs)
    try:
        with open(ready, encoding="utf-8") as pipe:
            announcement = pipe.read()
    except BaseException:  # Ctrl-C before it was announced: leave nothing running
        _end(process)
        raise
    if announcement:
        print(announcement.strip())
        print(
            f"in the background: process {process.pid}, log {os.path.relpath(log_path)} · lqmf status, lqmf stop"
        )
        return 0
    code = process.wait()
    sys.stderr.write(_errors(log_path))
    return code if code > 0 else 1


def _foreground(args: Sequence[str], run_dir: Path) -> list[str]:
    kept = [
        arg for arg in args if arg.partition("=")[0].lstrip("+") not in ("server.background", "hydra.run.dir")
    ]
    folder = str(run_dir.absolute()).replace("\\", "\\\\").replace("'", "\\'")
    return [*kept, "server.background=false", f"hydra.run.dir='{folder}'"]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _errors(log_path: Path) -> str:
    """The error and hint of a server that did not start, or the last lines of its log."""
    try:
        lines = log_path.read_text("utf-8", "replace").splitlines()
    except OSError as error:
        raise LqmfError(
            f"the server ended before it was ready, and its log cannot be read: {error}"
        ) from None
    said = [line for line in lines if line.startswith(("error: ", "hint: "))] or lines[-_TAIL_LINES:]
    return "".join(f"{line}\n" for line in said or ["error: the server ended before it was ready"])
