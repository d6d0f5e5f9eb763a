"""Markdown of answers that nobody can trust."""

from __future__ import annotations

import random

import pytest
from rich.console import Console

from lqmf_runner.console.chat.screen.markdown import open_fence, render_lines, split_blocks, without_controls


def rendered(text: str, width: int = 60) -> list[str]:
    console = Console(width=width, force_terminal=True)
    return ["".join(segment.text for segment in line) for line in render_lines(console, text)]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a <b>x</b> <script>alert(1)</script>", ["a <b>x</b> <script>alert(1)</script>"]),
        ("<div>\nhidden?\n</div>", ["<div>", "hidden?", "</div>"]),
        ("&#27;[2J &lt;", ["&#27;[2J &lt;"]),
        ("[here](http://evil.example)", ["here (http://evil.example)"]),
        ("![x](http://evil.example/p.png)", ["!x (http://evil.example/p.png)"]),
        ("a \x1b[2J\x9b\x07\u202eb", ["a [2Jb"]),
        ("```\n\x1b[2J  kept\n```", ["```", "[2J  kept", "```"]),
        ("```\x1b[2J\nx\n```", ["```[2J", "x", "```"]),
        ("one\ntwo", ["one", "two"]),
        ("# Title", ["Title"]),
    ],
)
def test_what_is_shown(text: str, lines: list[str]) -> None:
    assert rendered(text) == lines


def test_no_control_character_gets_through() -> None:
    draw = random.Random(1)
    pieces = [
        "\x1b",
        "\x9b",
        "\x07",
        "[",
        "`",
        "*",
        "#",
        "\n",
        "|",
        "-",
        "> ",
        "a",
        "&#27;",
        "<",
        "1. ",
        "\u2028",
        "é",
        "你",
    ]
    for _ in range(300):
        text = "".join(draw.choices(pieces, k=60))
        finished, growing = split_blocks(text)
        assert finished + growing == text
        for line in rendered(text, width=30):
            assert without_controls(line) == line
            assert "\n" not in line


def test_a_block_is_finished_when_another_begins() -> None:
    assert split_blocks("one\n\ntwo") == ("one\n\n", "two")
    assert split_blocks("one\n\n") == ("", "one\n\n")
    assert split_blocks("```\na\n\nb") == ("", "```\na\n\nb")
    assert split_blocks("- a\n- b\n\n- c") == ("", "- a\n- b\n\n- c")


@pytest.mark.parametrize(
    ("text", "opening"),
    [
        ("a", ""),
        ("```py\nx", "```py"),
        ("```\nx\n```\nb", ""),
        ("~~~\n```\nx", "~~~"),
        ("```\n```\n```js\n", "```js"),
    ],
)
def test_an_answer_that_ends_in_code(text: str, opening: str) -> None:
    assert open_fence(text) == opening
