"""Reports as Markdown (GitHub's flavour). Everything from outside is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .document import Block, Heading, Image, Paragraph, Table, Verbatim

_SPECIAL = re.compile(r"([\\`*\[\]|#])")


def render_markdown(blocks: Sequence[Block]) -> str:
    """The document as one Markdown text."""
    return "\n\n".join(_render(block) for block in blocks) + "\n"


def _render(block: Block) -> str:
    match block:
        case Heading(level=level, text=text):
            return f"{'#' * level} {escape(text)}"
        case Paragraph(text=text, warning=warning):
            return f"> **{escape(text)}**" if warning else escape(text)
        case Image(path=path, alt=alt):
            return f"![{escape(alt)}]({path.name})"
        case Table():
            return _table(block)
        case Verbatim(title=title, text=text):
            return f"**{escape(title)}**\n\n{_fenced(text)}"


def escape(text: str) -> str:
    """One line of plain text that Markdown and the HTML within it leave alone."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", line)


def _table(table: Table) -> str:
    align = ["---" if n < table.text_columns else "---:" for n in range(len(table.heads))]
    lines = [table.heads, align, *table.rows]
    return "\n".join(f"| {' | '.join(cells if cells is align else map(escape, cells))} |" for cells in lines)


def _fenced(text: str) -> str:
    """A code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
