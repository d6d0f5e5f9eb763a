"""Runs of the program that the console starts: in the foreground, or in the background with progress and cancel."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .server_link import KEY, server_key

_MODULE = "lqmf_runner"
_END_TIMEOUT_S = 20.0
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_TAIL = 64 * 1024


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `error` and `hint` are those that it printed."""

    code: int
    seconds: float
    error: str = ""
    hint: str = ""


def run_in_foreground(arguments: Sequence[str], *, interactive: bool) -> Outcome:
    """Run the program with this terminal. Ctrl-C is the program's.

    Args:
        interactive: it reads from the terminal; otherwise its errors are read too.
    """
    began = time.monotonic()
    with _ctrl_c_is_the_childs():
        process = subprocess.Popen(
            _command(arguments),
            stdin=None if interactive else subprocess.DEVNULL,
            stderr=None if interactive else subprocess.PIPE,
            env=os.environ | {KEY: server_key()},
        )
        said = bytearray()
        if process.stderr is not None:
            for block in iter(lambda: os.read(process.stderr.fileno(), 4096), b""):  # type: ignore[union-attr]
                said += block
                sys.stderr.write(block.decode("utf-8", "replace"))
                sys.stderr.flush()
        code = process.wait()
    return Outcome(code, time.monotonic() - began, *_said(said.decode("utf-8", "replace")))


class Job:
    """A run in the background. Its output goes to a file."""

    def __init__(self, title: str, arguments: Sequence[str], log: Path) -> None:
        self.title = title
        self.log = log
        self.cancelled = False
        self._began = time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                _command(arguments),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | {"COLUMNS": "120"},
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def seconds(self) -> float:
        """Since its start."""
        return time.monotonic() - self._began

    def progress(self) -> str:
        """The last line of its output."""
        lines = [line for line in self.output().splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""

    def output(self) -> str:
        """The end of its output, without control characters."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _TAIL))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return _CONTROLS.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))

    def cancel(self) -> None:
        """End it like Ctrl-C, and by force if that takes too long."""
        self.cancelled = True
        for number in (signal.SIGINT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_TIMEOUT_S)
                return

    def wait(self) -> Outcome:
        """Wait for its end."""
        code = self._process.wait()
        return Outcome(code, self.seconds, *_said(self.output()))

    def when_ended(self, then: Callable[[Outcome], None]) -> threading.Thread:
        """Call a function, in a thread, with how it has ended."""
        thread = threading.Thread(target=lambda: then(self.wait()), daemon=True)
        thread.start()
        return thread


def without_controls(text: str) -> str:
    """The text without terminal control sequences."""
    return _CONTROLS.sub("", text)


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", _MODULE, *arguments]


def _said(text: str) -> tuple[str, str]:
    """The error and the hint among the lines of a run."""
    found = {"error": "", "hint": ""}
    for line in text.splitlines():
        name, colon, rest = line.partition(": ")
        if colon and name in found:
            found[name] = rest.strip()
    return found["error"], found["hint"]


class _ctrl_c_is_the_childs(contextlib.AbstractContextManager[None]):  # noqa: N801 (reads as a function)
    """This process passes over Ctrl-C. The child does not inherit that, because a handler is not inherited.

    Only the main thread may say so. In another one the user has the prompt, and Ctrl-C is the prompt's.
    """

    def __enter__(self) -> None:
        self._in_main = threading.current_thread() is threading.main_thread()
        if self._in_main:
            self._before = signal.signal(signal.SIGINT, lambda *_: None)

    def __exit__(self, *_: object) -> None:
        if self._in_main:
            signal.signal(signal.SIGINT, self._before)
