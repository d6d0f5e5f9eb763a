"""An answer that grows on the screen, read back from a terminal that understands what the view sends."""

from __future__ import annotations

import io
import random
import re

import pytest
from rich.console import Console

from lqmf_runner.console.chat.screen.answer_view import AnswerView

HEIGHT = 12
_CODES = re.compile(r"\x1b\[(\d*)([A-Za-z])|\x1b\[[\d;]*m|\r|\n|[^\x1b\r\n]+")


def screen_of(output: str) -> list[str]:
    """The rows that a terminal shows after this output; it can go up over the rows of its own height only."""
    rows, at = [""], 0
    for found in _CODES.finditer(output):
        code = found[0]
        if found[2] == "A":
            at -= int(found[1] or 1)
            assert at > len(rows) - 1 - HEIGHT, "the view went above the top of the screen"
        elif found[2] == "K":
            rows[at] = ""
        elif code == "\n":
            at += 1
            rows += [""] * (at == len(rows))
        elif code != "\r" and found[2] is None and not code.startswith("\x1b"):
            rows[at] += code
    return "\n".join(row.rstrip() for row in rows).rstrip().split("\n")


def shown(
    text: str, *, width: int = 40, status: str = "3 tokens", opening: str = "", seed: int = 0
) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, height=HEIGHT, color_system=None)
    view, at, draw = AnswerView(console, opening), 0, random.Random(seed)
    while at < len(text):
        step = draw.randint(1, 9)
        view._next_draw = 0.0
        view.feed(text[at : at + step], status)
        at += step
    view.finish()
    return screen_of(out.getvalue())


CODE = "```python\n" + "".join(f"x{n} = {n}\n" for n in range(50)) + "```"
LIST = "\n".join(f"{n}. point {n}" for n in range(1, 31))
PROSE = " ".join(f"word{n}" for n in range(200))


@pytest.mark.parametrize("seed", range(3))
def test_blocks_taller_than_the_screen_are_printed_once(seed: int) -> None:
    text = f"First.\n\n{CODE}\n\nThen:\n\n{LIST}\n\n{PROSE}\n\nEnd."
    rows = shown(text, seed=seed)
    assert rows[:3] == ["First.", "", "```python"]
    assert [row for row in rows if re.fullmatch(r"x\d+ = \d+", row)] == [f"x{n} = {n}" for n in range(50)]
    assert re.findall(r"point (\d+)", "\n".join(rows)) == [str(n) for n in range(1, 31)]
    assert re.findall(r"word\d+", "\n".join(rows)) == PROSE.split()
    assert rows[-2:] == ["", "End."]
    assert "3 tokens" not in rows
    assert max(map(len, rows)) <= 40


def test_words_are_not_cut_and_lines_are_kept() -> None:
    assert shown("roses are red and violets are blue\nsugar is sweet", width=20) == [
        "roses are red and", "violets are blue", "sugar is sweet",
    ]  # fmt: skip


def test_an_answer_goes_on_within_its_code() -> None:
    assert shown("b = 2\n```\nDone.", opening="```python") == ["```python", "b = 2", "```", "", "Done."]


def test_an_empty_answer_leaves_nothing() -> None:
    assert shown("") == [""]
    assert shown("\n\n") == [""]
