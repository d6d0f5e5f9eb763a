"""The program's output. It lets the program continue when its stdout is closed (`... | head`)."""

from __future__ import annotations

import os
import sys
from typing import IO

from rich.console import Console

_PIPE_WIDTH = 10_000


class OutputConsole(Console):
    """Rich's console; when its stream is closed, the program continues without output."""

    def on_broken_pipe(self) -> None:
        """Rich's own ends the program."""
        self.quiet = True
        discard(self.file)


def list_console() -> OutputConsole:
    """A console for lists: as wide as the terminal, or as wide as the lines are where the output is piped."""
    return OutputConsole(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def discard(stream: IO[str]) -> None:
    """Let go of what is still to come on this stream, and of what it holds back."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
