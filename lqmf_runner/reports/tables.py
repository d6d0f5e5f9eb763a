"""Tables in the terminal: cut into several between columns where the terminal is narrow, never within a word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from ..results.schema import ModelResult
from .columns import Column, Row

_ANY_WIDTH = 10_000


def fit_tables(columns: Sequence[Column[Row]], rows: Sequence[Row], console: Console) -> list[Table]:
    """One table if it fits the console's width; else several that each begin with the first column."""
    tables: list[Table] = []
    rest = list(columns[1:])
    while rest or not tables:
        taken = rest[:1]
        while len(taken) < len(rest):
            wider = rest[: len(taken) + 1]
            if _width(_table([columns[0], *wider], rows), console) > console.width:
                break
            taken = wider
        tables.append(_table([columns[0], *taken], rows))
        rest = rest[len(taken) :]
    return tables


def print_table(console: Console, table: Table) -> None:
    """Print a table without blanks at the ends of lines. A line that is wider than the terminal is left to it."""
    width = max(console.width, _width(table, console))
    lines = console.render_lines(table, console.options.update(width=width), pad=False)
    console.print(Segments(_joined(lines)), end="", crop=False, soft_wrap=True)


def printable(text: str) -> str:
    """Text without control characters: a model or a file must not control the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _joined(lines: Sequence[Sequence[Segment]]) -> Iterator[Segment]:
    for line in lines:
        kept = list(line)
        while kept and not kept[-1].text.rstrip():
            kept.pop()
        if kept:
            kept[-1] = Segment(kept[-1].text.rstrip(), kept[-1].style)
        yield from kept
        yield Segment.line()


def _table(columns: Sequence[Column[Row]], rows: Sequence[Row]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(
            Text(column.head), justify="right" if column.is_number else "left", no_wrap=True, overflow="fold"
        )
    for row in rows:
        failed = isinstance(row, ModelResult) and row.error and not row.loads
        table.add_row(
            *(
                Text(
                    printable(column.cell(row)),
                    style="red" if failed else column.style(row) if column.style else "",
                )
                for column in columns
            )
        )
    return table


def _width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(max_width=_ANY_WIDTH), table).maximum
