"""What is typed while nobody reads it."""

from __future__ import annotations

import contextlib
import sys
import termios
from collections.abc import Iterator

_MARK_PASTES, _MARK_NONE = "\x1b[?2004h", "\x1b[?2004l"


@contextlib.contextmanager
def hidden_keys() -> Iterator[None]:
    """What is typed now is not shown in the answer that is printed; it waits for the next prompt."""
    terminal = sys.stdin.fileno()
    try:
        before = termios.tcgetattr(terminal)
    except termios.error:
        yield
        return
    silent = [*before]
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, silent)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)
        _write(_MARK_NONE)


def mark_pastes() -> None:
    """Have the terminal mark what is pasted from now on, as it does while a prompt reads.

    A prompt ends that when it ends, and each line of a paste would then be a message of its own at the next one.
    """
    _write(_MARK_PASTES)


def _write(sequence: str) -> None:
    sys.stdout.write(sequence)
    sys.stdout.flush()
