"""Text of models and users as Markdown that holds no markup: tags and pictures are shown as they were written."""

from __future__ import annotations

import re
import shlex

_CODE = re.compile(r"(^ {0,3}(`{3,}|~{3,}).*?(?:^ {0,3}\2|\Z)|(`+)(?!`)[^\n]*?(?<!`)\3(?!`))", re.M | re.S)
_OUTSIDE_CODE = {"&": "&amp;", "<": "&lt;", "![": "&#33;["}
_ESCAPED = {escape: text for text, escape in _OUTSIDE_CODE.items()}


def as_markdown(text: str) -> str:
    """The text with its Markdown, but without HTML and pictures, which are escaped. Code stays as it is."""
    return _outside_code(text, _OUTSIDE_CODE)


def from_markdown(shown: str) -> str:
    """The text again: `from_markdown(as_markdown(text)) == text`."""
    return _outside_code(shown, _ESCAPED)


def command(*words: str) -> str:
    """A command line, quoted for a shell, that does what the page has done."""
    return shlex.join(("lqmf", *words))


def code_block(text: str) -> str:
    """A block of Markdown that shows the text as it is."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text) or [""]))
    return f"{fence}\n{text}\n{fence}"


def _outside_code(text: str, changes: dict[str, str]) -> str:
    pattern = re.compile("|".join(map(re.escape, changes)))
    parts, end = [], 0
    for code in _CODE.finditer(text):
        parts += [pattern.sub(lambda found: changes[found[0]], text[end : code.start()]), code[0]]
        end = code.end()
    parts.append(pattern.sub(lambda found: changes[found[0]], text[end:]))
    return "".join(parts)
