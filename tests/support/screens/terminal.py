"""A real terminal (tmux) in which a program runs, to type into and to read from."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

_PATIENCE_S = 90.0

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


class Terminal:
    """A terminal; `open_terminal` makes it."""

    def __init__(self, socket: str) -> None:
        self._socket = socket

    def type(self, text: str) -> None:
        """Type characters as they are."""
        self._tmux("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Press keys by tmux' names: "Enter", "C-c", "M-Enter", "Up"."""
        self._tmux("send-keys", *keys)

    def enter(self, text: str) -> None:
        """Type a line and press Enter."""
        self.type(text)
        self.press("Enter")

    def paste(self, text: str) -> None:
        """Paste as terminals do it, in brackets."""
        self._tmux("load-buffer", "-", stdin=text)
        self._tmux("paste-buffer", "-p")

    def resize(self, columns: int, lines: int) -> None:
        """Give the window another size, and wait until the program can see it."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))
        with open(self._tmux("display-message", "-p", "#{pane_tty}").strip()) as pane:
            self.wait_for(lambda _: os.get_terminal_size(pane.fileno()) == (columns, lines))

    def terminate(self) -> None:
        """Send SIGTERM to the program."""
        shell = int(self._tmux("display-message", "-p", "#{pane_pid}"))
        for child in psutil.Process(shell).children():
            child.terminate()

    def screen(self) -> str:
        """What stands on the screen, and what has scrolled away."""
        return self._tmux("capture-pane", "-p", "-S", "-5000")

    def wait_for(
        self, what: str | Callable[[str], bool], *, times: int = 1, patience_s: float = _PATIENCE_S
    ) -> str:
        """The screen, as soon as a text stands on it so many times or a condition holds."""
        holds = (lambda screen: screen.count(what) >= times) if isinstance(what, str) else what
        give_up = time.monotonic() + patience_s
        while not holds(screen := self.screen()):
            assert time.monotonic() < give_up, f"not seen: {what}\n{screen}"
            time.sleep(0.05)
        return screen

    def _tmux(self, command: str, *arguments: str, stdin: str | None = None) -> str:
        target = [] if command == "load-buffer" else ["-t", "t"]
        done = subprocess.run(
            ["tmux", "-L", self._socket, command, *target, *arguments],
            input=stdin, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout


@contextlib.contextmanager
def open_terminal(
    folder: Path, *arguments: str, columns: int = 80, lines: int = 24, env: dict[str, str] | None = None
) -> Iterator[Terminal]:
    """Run `python -m lqmf_runner` with arguments in a terminal; its exit code is shown as `exit code <n>.`"""
    socket = f"lqmf-{uuid.uuid4().hex[:12]}"
    program = shlex.join([sys.executable, "-m", "lqmf_runner", *arguments])
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LQMF_", "HYDRA_", "TMUX", "NO_COLOR"))}
    clean |= {"LQMF_STATE_DIR": str(folder / "state"), "NO_PROXY": "127.0.0.1", **(env or {})}
    # cat keeps the window when the program has ended.
    line = f"{program}; echo exit code $?.; exec cat"
    subprocess.run(
        ["tmux", "-L", socket, "-f", os.devnull, "new-session", "-d", "-s", "t", "-x", str(columns), "-y",
         str(lines), "bash", "-c", line],
        env=clean, cwd=folder, check=True,
    )  # fmt: skip
    try:
        yield Terminal(socket)
    finally:
        subprocess.run(["tmux", "-L", socket, "kill-server"], check=False)
