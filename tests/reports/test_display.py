"""What the terminal shows fits it and cannot steer it."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from lqmf_runner.reports.columns import summary_columns
from lqmf_runner.reports.tables import fit_tables, printable
from tests.support.runs.sample import sample_model, sample_results


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("models", [1, 3])
def test_the_table_fits_the_terminal_and_loses_no_column(width: int, models: int) -> None:
    results = sample_results(*(sample_model(f"smollm2_number{n}") for n in range(models)))
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    tables = fit_tables(summary_columns(results), results.models, console)
    for table in tables:
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    heads = [str(column.header) for table in tables for column in table.columns]
    assert [head for head in heads if head != "model"] == [c.head for c in summary_columns(results)[1:]]
    assert len(tables) == 1 or width < 160


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[31mb\x07\r\nc") == "a [31mb   c"
