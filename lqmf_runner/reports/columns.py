"""The columns of the comparison table: one list for the terminal, Markdown and HTML."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..results.broken import why_broken
from ..results.metrics import METRICS, value_at
from ..results.schema import LoadResult, ModelResult, Results, Shape
from . import figures as fig

Row = TypeVar("Row")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A head, and the cell for a row, such as a model. A narrow terminal breaks the head at the newline.

    `rank` orders the cells if one can be better than another: the lowest rank is the best. `style` colours
    a cell in the terminal.
    """

    head: str
    cell: Callable[[Row], str]
    is_number: bool = True
    rank: Callable[[Row], float | None] | None = None
    style: Callable[[Row], str] | None = None


def load_shapes(results: Results) -> list[Shape]:
    """All shapes that any model was measured under, in the order in which they ran."""
    return list(dict.fromkeys(load.shape for model in results.models for load in model.loads))


def summary_columns(results: Results) -> list[Column[ModelResult]]:
    """Columns of the table that compares the models. The most important come first: a narrow terminal splits the table.

    Latency and bandwidth are those of the first load.
    """
    shapes = [shape for shape in load_shapes(results) if shape.kind != "ramp"]
    if [shape.kind for shape in shapes] == ["served"]:
        return _served_columns(shapes[0])
    repeated = any(load.repeats for model in results.models for load in model.loads)
    interval = " ± 95 %" if repeated else ""
    columns: list[Column[ModelResult]] = [
        Column("model", lambda m: m.name, is_number=False),
        Column("format", fig.format_name, is_number=False),
        Column("bits/w", lambda m: fig.number(m.bits_per_weight)),
        _figure_column("size_mb"),
        _figure_column("memory_mb", cell=fig.memory),
    ]
    columns += [
        _load_column(
            "tokens_per_s",
            shape,
            f"tok/s{interval}\n{fig.load_label(shape)}",
            # of an open loop it is how much was asked for
            ranked=shape.concurrency is not None,
        )
        for shape in shapes
    ]
    latency = _latency_columns(shapes[0]) if shapes else []
    columns += latency[:1]
    fidelity = _fidelity_columns(results)
    columns += fidelity[:2]
    columns.append(_figure_column("load_time_s", "load", lambda m: fig.seconds(m.load_time_s)))
    columns += latency[1:]
    if any(model.ramp for model in results.models):
        columns.append(Column("sustained\nreq/s", fig.ramp))
    if any(load.goodput_rps is not None for model in results.models for load in model.loads):
        columns += [
            _load_column("goodput", shape, f"goodput req/s{interval}\n{fig.load_label(shape)}")
            for shape in shapes
        ]
    columns += fidelity[2:]
    for name, score in _tasks(results):
        columns.append(Column(f"{name}\n{score} ± SE", functools.partial(fig.task, name=name, metric=score)))
    if any(model.quality.similarity for model in results.models):
        columns.append(Column("similarity\nF1", fig.similarity))
    if any(model.quality.judge for model in results.models):
        columns.append(Column("judge", fig.judged))
    columns.append(Column("heuristic", fig.heuristic))
    for key, metric in METRICS.items():
        if metric.column and metric.of_load:
            columns += [
                _load_column(key, shape, f"{metric.title}\n{fig.load_label(shape)}") for shape in shapes
            ]
        elif metric.column:
            columns.append(_figure_column(key))
    return telling(columns, results.models)


def telling(columns: Sequence[Column[Row]], rows: Sequence[Row]) -> list[Column[Row]]:
    """The columns that say something of any row."""
    return [
        column for column in columns if any(set(column.cell(row)) - set(f"{fig.UNKNOWN}/ ") for row in rows)
    ]


def _served_columns(shape: Shape) -> list[Column[ModelResult]]:
    """What versions have served. None is marked as the best: the verdict says which differences are more than noise."""
    columns: tuple[tuple[str, Callable[[LoadResult], str]], ...] = (
        ("requests", lambda load: str(load.requests)),
        ("answered", lambda load: fig.percent(load.success_rate)),
        ("client left", lambda load: str(load.cancelled)),
        ("TTFT ms\np50 / p99", lambda load: fig.pair(load.ttft_s)),
        ("ITL ms\nmean", lambda load: fig.milliseconds(load.itl_s.mean)),
        ("TPOT ms\np50 / p99", lambda load: fig.pair(load.tpot_s)),
        ("E2E ms\np50 / p99", lambda load: fig.pair(load.e2e_s)),
        ("output\ntokens", lambda load: f"{load.output_tokens:,}"),
    )
    return [
        Column("version", lambda model: model.name, is_number=False),
        Column("format", fig.format_name, is_number=False),
        *(Column(head, _of_load(shape, cell)) for head, cell in columns),
    ]


def _latency_columns(shape: Shape) -> list[Column[ModelResult]]:
    """Latency and use of the memory bandwidth under a load."""
    at = fig.load_label(shape)
    return [
        _load_column("ttft_s", shape, f"TTFT ms {at}\np50 / p99", lambda load: fig.pair(load.ttft_s)),
        _load_column("itl_s", shape, f"ITL ms {at}\np50"),
        Column(f"bandwidth\n{at}", _of_load(shape, lambda load: fig.percent(load.bandwidth_utilisation))),
    ]


def _fidelity_columns(results: Results) -> list[Column[ModelResult]]:
    """Columns of what was measured against the reference; none where nothing was."""
    columns: list[Column[ModelResult]] = []
    if any(model.quality.kld for model in results.models):
        columns += _distribution_columns()
    if any(model.quality.decisions for model in results.models):
        columns.append(_figure_column("flips", "flips\n± SE", fig.flips))
    return columns


def _distribution_columns() -> list[Column[ModelResult]]:
    return [
        _figure_column("kld", "KLD\nmean ± SE", fig.kld),
        _figure_column("top1"),
        _figure_column(
            "perplexity",
            "perplexity\n± SE",
            lambda m: fig.plus_minus(m.quality.perplexity, m.quality.perplexity_se),
        ),
        Column("differs\nat token", fig.divergence),
    ]


def _tasks(results: Results) -> list[tuple[str, str]]:
    """The tasks that any model was measured on, each with its first metric."""
    found = {name: values for model in results.models for name, values in model.quality.tasks.items()}
    return [(name, next((key for key in values if key != "n"), "")) for name, values in found.items()]


def best_cells(columns: Sequence[Column[ModelResult]], models: Sequence[ModelResult]) -> set[tuple[int, int]]:
    """(row, column) of the best cells; none in a column where all look the same. None of a failed or broken model."""
    best: set[tuple[int, int]] = set()
    for number, column in enumerate(columns):
        if column.rank is None:
            continue
        ranks = {
            row: rank
            for row, model in enumerate(models)
            if model.error is None
            and why_broken(model.quality) is None
            and (rank := column.rank(model)) is not None
        }
        cells = {row: column.cell(models[row]) for row in ranks}
        if len(set(cells.values())) > 1:
            winner = min(ranks, key=lambda row: ranks[row])
            best |= {(row, number) for row, cell in cells.items() if cell == cells[winner]}
    return best


LOAD_COLUMNS: tuple[Column[LoadResult], ...] = (
    Column("load", lambda load: load.shape.key + (" (partial)" if load.partial else ""), is_number=False),
    Column("requests", lambda load: str(load.requests)),
    Column("success", lambda load: fig.percent(load.success_rate)),
    Column("TTFT p50/p99 ms", lambda load: fig.pair(load.ttft_s)),
    Column("ITL p50/p99 ms", lambda load: fig.pair(load.itl_s)),
    Column("TPOT p50/p99 ms", lambda load: fig.pair(load.tpot_s)),
    Column("E2E p50/p99 ms", lambda load: fig.pair(load.e2e_s)),
    Column("output tok/s", lambda load: fig.number(load.output_tokens_per_s)),
    Column("total tok/s", lambda load: fig.number(load.total_tokens_per_s)),
    Column("req/s", lambda load: fig.number(load.requests_per_s)),
    Column("prefill tok/s", lambda load: fig.number(load.prefill_tokens_per_s)),
    Column("decode tok/s", lambda load: fig.number(load.decode_tokens_per_s)),
    Column("bandwidth", lambda load: fig.percent(load.bandwidth_utilisation)),
    Column("goodput req/s", lambda load: fig.number(load.goodput_rps)),
    Column(
        "cached prompt",
        lambda load: fig.percent(load.cached_tokens / load.prompt_tokens if load.prompt_tokens else None),
    ),
)
"""Columns of the table of all loads, a row a load."""


def _figure_column(
    key: str, head: str = "", cell: Callable[[ModelResult], str] | None = None
) -> Column[ModelResult]:
    """A column of a metric of models: its head and cells, unless others are given, and which cell is the best."""
    metric = METRICS[key]

    def rank(model: ModelResult) -> float | None:
        figure = metric.read(model)
        return None if figure is None else metric.rank(figure)

    return Column(
        head or metric.title, cell or (lambda model: fig.written(metric, metric.read(model))), rank=rank
    )


def _load_column(
    key: str,
    shape: Shape,
    head: str,
    cell: Callable[[LoadResult], str] | None = None,
    *,
    ranked: bool = True,
) -> Column[ModelResult]:
    """The same of a metric of a load. A load that was cut short does not compete."""
    metric = METRICS[key]

    def rank(model: ModelResult) -> float | None:
        load = fig.find_load(model, shape)
        figure = None if load is None or load.partial else value_at(load, metric.path)
        return None if figure is None else metric.rank(figure)

    written = cell or (lambda load: fig.estimated(load, metric))
    return Column(head, _of_load(shape, written), rank=rank if ranked else None)


def _of_load(shape: Shape, cell: Callable[[LoadResult], str]) -> Callable[[ModelResult], str]:
    def of_model(model: ModelResult) -> str:
        load = fig.find_load(model, shape)
        if load is None:
            return fig.UNKNOWN
        return cell(load) + ("*" if load.partial else "")

    return of_model
