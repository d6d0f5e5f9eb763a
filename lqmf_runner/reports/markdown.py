"""Reports as Markdown (GitHub's flavour). Everything from outside is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .document import Answers, Block, Command, Facts, Heading, Paragraph, Plots, Table, Verbatim, VerdictBox

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
        case VerdictBox():
            lines = [*block.reasons, *(f"Caution: {caution}" for caution in block.cautions)]
            return "\n".join(
                [f"> **Verdict: {escape(block.headline)}**", *(f">\n> {escape(text)}" for text in lines)]
            )
        case Plots(plots=plots):
            return "\n\n".join(f"![{escape(plot.alt)}]({plot.name})" for plot in plots)
        case Table():
            return _table(block)
        case Facts(title=title, rows=rows):
            return _table(Table(("", ""), rows, text_columns=2, title=title))
        case Verbatim(title=title, text=text):
            return f"**{escape(title)}**\n\n{_fenced(text)}"
        case Answers(comparison=comparison):
            parts = [f"**{escape(comparison.prompt_id)}** {escape(comparison.prompt)}"]
            for answer in comparison.answers:
                facts = " · ".join(filter(None, (answer.model, answer.facts, answer.note)))
                parts.append(f"{escape(facts)}\n\n{_fenced(answer.text)}")
            return "\n\n".join(parts)
        case Command(text=text):
            return _fenced(text)


def escape(text: str) -> str:
    """One line of plain text that Markdown and the HTML within it leave alone."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", line)


def _table(table: Table) -> str:
    align = ["---" if n < table.text_columns else "---:" for n in range(len(table.heads))]
    rows = [
        [f"**{escape(cell)}**" if (n, c) in table.best else escape(cell) for c, cell in enumerate(cells)]
        for n, cells in enumerate(table.rows)
    ]
    title = [f"**{escape(table.title)}**", ""] if table.title else []
    lines = [[escape(head) for head in table.heads], align, *rows]
    return "\n".join([*title, *(f"| {' | '.join(cells)} |" for cells in lines)])


def _fenced(text: str) -> str:
    """A code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
