"""The program's output. It lets the program continue when its stdout is closed (`... | head`)."""

from __future__ import annotations

import os
import sys
from typing import IO, Any

from rich.console import Console

_PIPE_WIDTH = 10_000


class OutputConsole(Console):
    """Rich's console, but when its stream is closed, the program continues without output.

    Its width in a terminal is the terminal's own. COLUMNS, which some shells and programs leave in the environment,
    would hold the size that the terminal had once; it counts where there is no terminal.
    """

    def __init__(self, **settings: Any) -> None:
        stream = settings.get("file") or (sys.stderr if settings.get("stderr") else sys.stdout)
        if stream.isatty():
            environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
            settings = {"_environ": environment, **settings}
        super().__init__(**settings)

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
