"""An answer on the screen while it grows: Markdown, words wrapped, redrawn in place."""

from __future__ import annotations

import time

from rich.cells import cell_len
from rich.console import Console
from rich.control import Control
from rich.segment import ControlType, Segment, Segments
from rich.text import Text

from .markdown import render_lines, split_blocks

_INTERVAL_S = 0.05
_RENDER_SHARE = 0.2  # of the time goes into drawing at most

Line = list[Segment]


class AnswerView:
    """Prints finished blocks for good, and draws the block that grows again and again below them.

    Args:
        opening: the line that opens a code block, if the answer goes on within one.
    """

    def __init__(self, console: Console, opening: str = "") -> None:
        self._console = console
        self._text = f"{opening}\n" if opening else ""
        self._printed = 0  # characters of the growing block, without blanks, that scrolled away
        self._drawn: list[str] = []
        self._separate = False
        self._next_draw = 0.0

    def feed(self, text: str, status: str = "") -> None:
        """Take the next piece of the answer. `status` is a line below it."""
        self._text += text
        if (began := time.monotonic()) >= self._next_draw:
            self._draw(status)
            spent = time.monotonic() - began
            self._next_draw = began + max(_INTERVAL_S, spent / _RENDER_SHARE)

    def finish(self) -> None:
        """Draw the whole answer, and leave the cursor below it."""
        with self._console:
            self._erase()
            self._print_block(self._text)
        self._text = ""

    def _draw(self, status: str) -> None:
        finished, growing = split_blocks(self._text)
        with self._console:
            self._erase()
            if finished:
                self._print_block(finished)
                self._text = growing
            lines = self._below(growing)
            room = max(self._console.height - 4, 1)
            if len(lines) > room:
                self._print(lines[:-room])
                self._printed += sum(map(_visible, lines[:-room]))
                self._separate = False  # that line has scrolled away too
                lines = lines[-room:]
            note = Text(status, style="dim", no_wrap=True, overflow="ellipsis")
            note.truncate(self._console.width - 1)
            lines = [*lines, *self._console.render_lines(note, pad=False)] if status else lines
            self._print(lines)
            self._drawn = ["".join(segment.text for segment in line) for line in lines]

    def _print_block(self, text: str) -> None:
        if lines := self._below(text):
            self._print(lines)
            self._separate, self._printed = True, 0

    def _below(self, text: str) -> list[Line]:
        """The lines of a block below those that scrolled away, with a blank line between two blocks.

        They are found by their characters: a resize moves the breaks.
        """
        lines, seen = render_lines(self._console, text), 0
        if not self._printed:
            return [[], *lines] if lines and self._separate else lines
        for index, line in enumerate(lines):
            seen += _visible(line)
            if seen > self._printed:
                return lines[index:]
        return []

    def _print(self, lines: list[Line]) -> None:
        for line in lines:
            self._console.print(Segments([*line, Segment.line()]), end="")

    def _erase(self) -> None:
        """Clear what was drawn last. A terminal that became narrower has wrapped it into more rows."""
        rows = sum(max(1, -(-cell_len(line) // self._console.width)) for line in self._drawn)
        up = [(ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)] * rows
        self._console.control(Control(ControlType.CARRIAGE_RETURN, *up))
        self._drawn = []


def _visible(line: Line) -> int:
    """Characters of a line, without blanks."""
    return sum(len("".join(segment.text.split())) for segment in line)
