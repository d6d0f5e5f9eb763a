"""Answers as Markdown for the terminal. All text of an answer is untrusted: it never steers the terminal."""

from __future__ import annotations

import re
from typing import ClassVar

from markdown_it import MarkdownIt
from rich import markdown
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.syntax import Syntax
from rich.text import Text

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# HTML is shown as text. Entities stay as typed, because `&#27;` would become a control character. The terminal has no
# pictures, and a link shows its address.
_PARSER = (
    MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"]).disable(["entity", "image"])
)
_FENCE = re.compile(r" {0,3}(```+|~~~+)")


def without_controls(text: str) -> str:
    """The text without control characters (line feeds and tabs stay) and without marks that reorder what is shown."""
    return _CONTROLS.sub("", text)


def split_blocks(text: str) -> tuple[str, str]:
    """The finished blocks of a text that grows at its end, and the block that may still change."""
    starts = [
        token.map[0] for token in _PARSER.parse(text) if token.level == 0 and token.map and token.nesting >= 0
    ]
    if len(starts) < 2:
        return "", text
    lines = text.split("\n")
    return "\n".join(lines[: starts[-1]]) + "\n", "\n".join(lines[starts[-1] :])


def open_fence(text: str) -> str:
    """The line that opened the code block in which the text ends; empty if it ends in none."""
    opening = ""
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if found is None:
            continue
        if not opening:
            opening = line
        elif line.strip().startswith(opening.strip()[:3]) and not line.strip().strip("`~"):
            opening = ""
    return opening


def render_lines(console: Console, text: str) -> list[list[Segment]]:
    """Markdown as lines of segments that fit the console's width, without blank lines around it."""
    options = console.options.update(width=console.width)
    lines = [_clean(line) for line in console.render_lines(AnswerMarkdown(text), options, pad=False)]
    filled = [index for index, line in enumerate(lines) if line]
    return lines[filled[0] : filled[-1] + 1] if filled else []


def _clean(line: list[Segment]) -> list[Segment]:
    """The line without control codes, and without blanks at its end, which a narrower terminal would wrap."""
    segments = [Segment(without_controls(s.text), s.style) for s in line if not s.control]
    while segments:
        last = segments.pop()
        if kept := last.text.rstrip():
            return [*segments, Segment(kept, last.style)]
    return []


class _Heading(markdown.Heading):
    LEVEL_ALIGN: ClassVar = dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), "left")


class _CodeBlock(markdown.CodeBlock):
    """Code between its fences, without padding, so that it can be copied."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        language = "" if self.lexer_name == "text" else self.lexer_name
        yield Text(f"```{language}", style="dim")
        code = str(self.text).rstrip()
        yield Syntax(code, self.lexer_name, theme="ansi_dark", word_wrap=True, background_color="default")
        yield Text("```", style="dim")


class AnswerMarkdown(markdown.Markdown):
    """Rich's Markdown, with line breaks where the answer has them, and with HTML as text."""

    elements: ClassVar = {
        **markdown.Markdown.elements,
        "heading_open": _Heading,
        "fence": _CodeBlock,
        "code_block": _CodeBlock,
    }

    def __init__(self, text: str) -> None:
        super().__init__("", hyperlinks=False)
        self.markup = without_controls(text)
        self.parsed = _PARSER.parse(self.markup)
        for token in self.parsed:
            for child in token.children or ():
                if child.type == "softbreak":
                    child.type = "hardbreak"
