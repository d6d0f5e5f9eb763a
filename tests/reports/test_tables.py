"""Tables in the terminal and in a pipe."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lqmf_runner.reports.columns import Column
from lqmf_runner.reports.tables import fit_tables, print_table

ROWS = [
    {"name": "a", "size": "1 MB", "folder": "x" * 50},
    {"name": "b_long_name", "size": "20 MB", "folder": "y/" * 60},
]
COLUMNS: list[Column[dict[str, str]]] = [
    Column("name", lambda row: row["name"], is_number=False),
    Column("size", lambda row: row["size"]),
    Column("folder", lambda row: row["folder"], is_number=False),
    Column("", lambda row: "", is_number=False),
]


@pytest.mark.parametrize("width", [20, 40, 80, 200, 10_000])
def test_every_cell_is_whole_at_every_width_and_no_line_ends_in_blanks(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    for table in fit_tables(COLUMNS, ROWS, console):
        print_table(console, table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for row in ROWS:
        for cell in row.values():
            assert cell in text
    assert text == "".join(line.rstrip() + "\n" for line in text.splitlines())
    blocks = sum(line.split()[:1] == ["name"] for line in text.splitlines())
    assert (blocks == 1) == (width >= 200)
    assert text.splitlines()[0].split()[:2] == ["name", "size"]


def test_numbers_stand_to_the_right() -> None:
    console = Console(file=io.StringIO(), width=80)
    for table in fit_tables(COLUMNS[:2], ROWS, console):
        print_table(console, table)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len({len(line) for line in lines}) == 1
