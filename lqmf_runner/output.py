"""The program's output, whose reader may leave before its end, as in `... | head`: that is its right."""

from __future__ import annotations

import os
from typing import IO

from rich.console import Console


class OutputConsole(Console):
    """Rich's console; where the reader has left, the program goes on without one."""

    def on_broken_pipe(self) -> None:
        """Rich's own ends the program."""
        self.quiet = True
        discard(self.file)


def discard(stream: IO[str]) -> None:
    """Let go of what is still to come on this stream, and of what it holds back."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
