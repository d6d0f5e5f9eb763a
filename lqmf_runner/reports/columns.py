"""The columns of the comparison table: one list for the terminal, Markdown and HTML."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..results.schema import LoadResult, ModelResult, Results, Shape
from . import figures as fig

Row = TypeVar("Row")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A head (a narrow terminal breaks it at the newline), and the cell for a row, such as a model.

    `rank` is what the cells are compared by where a lower or a higher figure is better: the lowest rank is the best.
    """

    head: str
    cell: Callable[[Row], str]
    is_number: bool = True
    rank: Callable[[Row], float | None] | None = None


def load_shapes(results: Results) -> list[Shape]:
    """All shapes that any model was measured under, in the order in which they ran."""
    return list(dict.fromkeys(load.shape for model in results.models for load in model.loads))


def summary_columns(results: Results) -> list[Column[ModelResult]]:
    """Columns of the one table that compares the models, those that decide first: a narrow terminal cuts it there.

    Latency and bandwidth are those of the first load.
    """
    shapes = [shape for shape in load_shapes(results) if shape.kind != "ramp"]
    repeated = any(load.repeats for model in results.models for load in model.loads)
    interval = " ± 95 %" if repeated else ""
    columns: list[Column[ModelResult]] = [
        Column("model", lambda m: m.name, is_number=False),
        Column("format", fig.format_name, is_number=False),
        Column("bits/w", lambda m: fig.number(m.bits_per_weight)),
        Column("size", lambda m: fig.megabytes(m.size_mb), rank=lambda m: m.size_mb),
        Column("memory", fig.memory, rank=fig.total_memory_mb),
    ]
    columns += [
        Column(
            f"tok/s{interval}\n{fig.load_label(shape)}",
            _of_load(
                shape, lambda load: fig.estimated(load, "output_tokens_per_s", load.output_tokens_per_s)
            ),
            # of an open loop it is how much was asked for
            rank=_rank(shape, lambda load: load.output_tokens_per_s, higher=True)
            if shape.concurrency is not None
            else None,
        )
        for shape in shapes
    ]
    latency = _latency_columns(shapes[0]) if shapes else []
    columns += latency[:1]
    fidelity = _fidelity_columns(results)
    columns += fidelity[:2]
    columns.append(Column("load", lambda m: fig.seconds(m.load_time_s), rank=lambda m: m.load_time_s))
    columns += latency[1:]
    if any(model.ramp for model in results.models):
        columns.append(Column("sustained\nreq/s", fig.ramp))
    if any(load.goodput_rps is not None for model in results.models for load in model.loads):
        columns += [
            Column(
                f"goodput req/s{interval}\n{fig.load_label(shape)}",
                _of_load(shape, lambda load: fig.estimated(load, "goodput_rps", load.goodput_rps)),
                rank=_rank(shape, lambda load: load.goodput_rps, higher=True),
            )
            for shape in shapes
        ]
    columns += fidelity[2:]
    for name, metric in _tasks(results):
        columns.append(
            Column(f"{name}\n{metric} ± SE", functools.partial(fig.task, name=name, metric=metric))
        )
    if any(model.quality.similarity for model in results.models):
        columns.append(Column("similarity\nF1", fig.similarity))
    if any(model.quality.judge for model in results.models):
        columns.append(Column("judge", fig.judged))
    columns.append(Column("heuristic", fig.heuristic))
    return columns


def _latency_columns(shape: Shape) -> list[Column[ModelResult]]:
    """Latency and use of the memory bandwidth under a load."""
    at = fig.load_label(shape)
    return [
        Column(
            f"TTFT ms {at}\np50 / p99",
            _of_load(shape, lambda load: fig.pair(load.ttft_s)),
            rank=_rank(shape, lambda load: load.ttft_s.p50),
        ),
        Column(
            f"ITL ms {at}\np50",
            _of_load(shape, lambda load: fig.milliseconds(load.itl_s.p50)),
            rank=_rank(shape, lambda load: load.itl_s.p50),
        ),
        Column(f"bandwidth\n{at}", _of_load(shape, lambda load: fig.percent(load.bandwidth_utilisation))),
    ]


def _fidelity_columns(results: Results) -> list[Column[ModelResult]]:
    """Columns of what was measured against the reference; none where nothing was."""
    columns: list[Column[ModelResult]] = []
    if any(model.quality.kld for model in results.models):
        columns += _distribution_columns()
    if any(model.quality.decisions for model in results.models):
        columns.append(Column("flips\n± SE", fig.flips, rank=_flip_rate))
    return columns


def _flip_rate(model: ModelResult) -> float | None:
    return model.quality.decisions.flip_rate if model.quality.decisions else None


def _distribution_columns() -> list[Column[ModelResult]]:
    return [
        Column("KLD\nmean ± SE", fig.kld, rank=lambda m: m.quality.kld.mean if m.quality.kld else None),
        Column("top-1", fig.top1, rank=lambda m: None if (t := m.quality.top1_agreement) is None else -t),
        Column(
            "perplexity\n± SE",
            lambda m: fig.plus_minus(m.quality.perplexity, m.quality.perplexity_se),
            rank=lambda m: m.quality.perplexity,
        ),
        Column("differs\nat token", fig.divergence),
    ]


def _tasks(results: Results) -> list[tuple[str, str]]:
    """The tasks that any model was measured on, each with its first metric."""
    found = {name: values for model in results.models for name, values in model.quality.tasks.items()}
    return [(name, next((key for key in values if key != "n"), "")) for name, values in found.items()]


def best_cells(columns: Sequence[Column[ModelResult]], models: Sequence[ModelResult]) -> set[tuple[int, int]]:
    """(row, column) of the best cells; none in a column where all look the same. No model that failed is among them."""
    best: set[tuple[int, int]] = set()
    for number, column in enumerate(columns):
        if column.rank is None:
            continue
        ranks = {
            row: rank
            for row, model in enumerate(models)
            if model.error is None and (rank := column.rank(model)) is not None
        }
        cells = {row: column.cell(models[row]) for row in ranks}
        if len(set(cells.values())) > 1:
            winner = min(ranks, key=lambda row: ranks[row])
            best |= {(row, number) for row, cell in cells.items() if cell == cells[winner]}
    return best


def load_heads() -> Sequence[str]:
    """Heads of the table of all loads."""
    return (
        "load", "requests", "success", "TTFT p50/p99 ms", "ITL p50/p99 ms", "TPOT p50/p99 ms", "E2E p50/p99 ms",
        "output tok/s", "total tok/s", "req/s", "prefill tok/s", "decode tok/s", "bandwidth", "goodput req/s",
        "cached prompt",
    )  # fmt: skip


def load_row(load: LoadResult) -> Sequence[str]:
    """A row of the table of all loads."""
    cached = load.cached_tokens / load.prompt_tokens if load.prompt_tokens else None
    return (
        fig.load_key(load.shape) + (" (partial)" if load.partial else ""),
        str(load.requests),
        fig.percent(load.success_rate),
        fig.pair(load.ttft_s),
        fig.pair(load.itl_s),
        fig.pair(load.tpot_s),
        fig.pair(load.e2e_s),
        fig.number(load.output_tokens_per_s),
        fig.number(load.total_tokens_per_s),
        fig.number(load.requests_per_s),
        fig.number(load.prefill_tokens_per_s),
        fig.number(load.decode_tokens_per_s),
        fig.percent(load.bandwidth_utilisation),
        fig.number(load.goodput_rps),
        fig.percent(cached),
    )


def _of_load(shape: Shape, cell: Callable[[LoadResult], str]) -> Callable[[ModelResult], str]:
    def of_model(model: ModelResult) -> str:
        load = fig.find_load(model, shape)
        if load is None:
            return fig.UNKNOWN
        return cell(load) + ("*" if load.partial else "")

    return of_model


def _rank(
    shape: Shape, value: Callable[[LoadResult], float | None], *, higher: bool = False
) -> Callable[[ModelResult], float | None]:
    """Ranks models by a figure of a load. A load that was cut short does not compete."""

    def rank(model: ModelResult) -> float | None:
        load = fig.find_load(model, shape)
        figure = None if load is None or load.partial else value(load)
        return None if figure is None else -figure if higher else figure

    return rank
