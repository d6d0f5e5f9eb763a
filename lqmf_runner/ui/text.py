"""Text as Markdown that holds no markup: of models with tags and pictures as they were written, of users as typed."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from markdown_it import MarkdownIt

from ..config.texts import quoted

_BLOCKS = MarkdownIt("commonmark", {"html": False}).enable("table")
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n|\Z)")
_BACKTICKS = re.compile(r"\\.|`+", re.S)
# What a browser could read as a tag or as the name of a character, and what Markdown reads as a picture.
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)|!\[")
_MARKUP_OR_CODE = re.compile(rf"{_MARKUP.pattern}|[`~]")
_ESCAPES = {"&": "&amp;", "<": "&lt;", "![": "&#33;[", "`": "&#96;", "~": "&#126;"}
_ESCAPED = {escape: text for text, escape in _ESCAPES.items()}
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
_INDENTS = re.compile(r"^ |(?<= ) ", re.M)  # blanks that a page would leave out
_REFERENCE = re.compile(r"&#(\d+);|&nbsp;|&emsp;")
_BLANKS = {"&nbsp;": " ", "&emsp;": "\t"}
_PLAIN_PATH = re.compile(r"/[\w./-]+", re.ASCII)
_ESCAPE = re.compile("|".join(map(re.escape, _ESCAPED)))


@functools.lru_cache(maxsize=256)
def as_markdown(text: str) -> str:
    """The text with its Markdown, but without HTML and pictures, which are escaped. Code stays as it is.

    Where escaping would change what is code, no code is left: only a text that wants to deceive is of that kind.
    """
    shown = _outside_code(text, lambda part: _MARKUP.sub(_escape, part))
    same_code = [text[a:b] for a, b in _code(text)] == [shown[a:b] for a, b in _code(shown)]
    return shown if same_code else _MARKUP_OR_CODE.sub(_escape, text)


def from_markdown(shown: str) -> str:
    """The text again: `from_markdown(as_markdown(text)) == text`."""
    return _outside_code(shown, lambda part: _ESCAPE.sub(lambda found: _ESCAPED[found[0]], part))


@functools.lru_cache(maxsize=256)
def as_typed(text: str) -> str:
    """The text as Markdown that shows it as it was typed: nothing in it is read as Markdown."""
    shown = _PUNCTUATION.sub(lambda sign: f"&#{ord(sign[0])};", text)
    return _INDENTS.sub("&nbsp;", shown).replace("\t", "&emsp;")


def from_typed(shown: str) -> str:
    """The text again: `from_typed(as_typed(text)) == text`."""
    return _REFERENCE.sub(lambda found: chr(int(found[1])) if found[1] else _BLANKS[found[0]], shown)


def speed(tokens: int, seconds: float) -> str:
    """Tokens a second: "0.4 tok/s", "158 tok/s"."""
    rate = tokens / max(seconds, 1e-9)
    return f"{rate:.1f} tok/s" if rate < 9.95 else f"{rate:,.0f} tok/s"


def command(*words: str) -> str:
    """A command line, quoted for a shell, that does what the page has done."""
    return shlex.join(("lqmf", *words))


def run_setting(folders: Sequence[Path]) -> str:
    """The setting that names finished runs, quoted for Hydra only where their names need it."""
    paths = (str(folder) for folder in folders)
    return f"runs=[{','.join(path if _PLAIN_PATH.fullmatch(path) else quoted(path) for path in paths)}]"


def code_block(text: str) -> str:
    """A block of Markdown that shows the text as it is."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text) or [""]))
    return f"{fence}\n{text}\n{fence}"


def _escape(found: re.Match[str]) -> str:
    return _ESCAPES[found[0]]


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    parts, end = [], 0
    for start, stop in _code(text):
        parts += [change(text[end:start]), text[start:stop]]
        end = stop
    return "".join([*parts, change(text[end:])])


def _code(text: str) -> list[tuple[int, int]]:
    """Where code lies whose content no reader of Markdown takes for markup; in doubt it is no code.

    The line that opens a block is not part of it: its info string is text.
    """
    if (
        "`" not in text and "~~~" not in text
    ) or "$$" in text:  # formulas are cut out before Markdown is read
        return []
    ends = [0, *(found.end() for found in _LINE.finditer(text))]
    found: list[tuple[int, int]] = []
    for token in _BLOCKS.parse(text):
        if token.map is None:
            continue
        first, last = token.map[0], min(token.map[1], len(ends) - 1)
        if token.type == "fence":
            found.append((ends[first + 1], ends[last]))
        elif token.type in ("inline", "tr_open"):
            found += _spans(text, ends[first], ends[last])
    return sorted(set(found))


def _spans(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Code within a paragraph. A span with a bar in it may be cut in two by a table."""
    while found := _BACKTICKS.search(text, start, stop):
        start = found.end()
        if found[0][0] == "\\":
            continue
        closing = re.compile(rf"(?<!`){found[0]}(?!`)").search(text, start, stop)
        if closing is not None:
            if "|" not in text[start : closing.start()]:
                yield found.start(), closing.end()
            start = closing.end()
