"""Which cells of the comparison are marked as the best."""

from __future__ import annotations

import msgspec

from lqmf_runner.reports.columns import best_cells, summary_columns
from tests.support.runs.sample import sample_model, sample_results


def test_the_best_of_a_column_is_marked_and_a_tie_is_shared() -> None:
    slow, fast, partial = sample_model("s", speed=50.0), sample_model("f"), sample_model("p", speed=400.0)
    partial.loads = [msgspec.structs.replace(load, partial=True) for load in partial.loads]
    models = [slow, fast, partial]
    columns = summary_columns(sample_results(*models))
    heads = [column.head.partition("\n")[0] for column in columns]
    best = {(models[row].name, heads[column]) for row, column in best_cells(columns, models)}
    assert best == {("f", "tok/s")}  # sizes, memory and latencies are the same for all
