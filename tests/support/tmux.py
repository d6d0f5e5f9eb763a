"""A real terminal to type into: tmux."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")


class Tmux:
    """One program in a terminal of its own."""

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], *, width: int = 110
    ) -> None:
        self._server = f"lqmf-{uuid.uuid4().hex[:8]}"
        settings = [f"{name}={value}" for name, value in environment.items()]
        line = f"env {shlex.join(settings)} {shlex.join(command)}; echo ended with $?; exec sleep 600"
        self._tmux(
            "new-session",
            "-d",
            "-x",
            str(width),
            "-y",
            "50",
            "-s",
            "t",
            f"cd {shlex.quote(str(folder))} && {line}",
        )

    def type(self, text: str) -> None:
        """Type a line."""
        self._tmux("send-keys", "-t", "t", "-l", text)
        self.press("Enter")

    def press(self, key: str) -> None:
        """Press a key, in tmux's words: "C-c", "Enter", "Tab"."""
        self._tmux("send-keys", "-t", "t", key)

    def screen(self) -> str:
        """All that was shown, with the lines joined that the terminal has wrapped."""
        return self._tmux("capture-pane", "-p", "-J", "-S", "-2000", "-t", "t")

    def wait_for(self, text: str, times: int = 1, timeout_s: float = 90.0) -> str:
        """What is shown once it has this text so many times."""
        end = time.monotonic() + timeout_s
        while (shown := self.screen()).count(text) < times:
            if time.monotonic() > end:
                raise AssertionError(f"no {text!r} within {timeout_s} s in:\n{shown}")
            time.sleep(0.05)
        return shown

    def close(self) -> None:
        """End the terminal and what runs in it."""
        subprocess.run(["tmux", "-L", self._server, "kill-server"], check=False, capture_output=True)

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self._server, *words], check=True, capture_output=True, text=True
        )
        return done.stdout
