"""Distributions as rows of small histograms: latency of every load, and KL divergence from the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...results.schema import RequestRecord, Results
from .. import figures as fig
from .palette import GRID, INK, MUTED
from .style import Plot, Sheet, colour, unique

_ROW, _LABEL = 0.4, 0.46  # height of a row in inches, and the share of it that its label takes
_MOST_ROWS = 18


@dataclass(frozen=True)
class _Row:
    """`counts` in the bins between `edges`; `median` is marked, `text` stands to the right."""

    model: int
    label: str
    edges: np.ndarray
    counts: np.ndarray
    median: float | None
    text: str
    group: str = ""


def latency_plots(results: Results, records: Sequence[RequestRecord]) -> Iterator[Plot]:
    """TTFT and ITL, a row for each model under each load; of many, only the lightest and the heaviest load."""
    whole = [record for record in records if record.error is None]
    for name, title, caption in (
        ("ttft", "Time to first token, ms", "From the request to the first piece of its answer"),
        ("itl", "Inter-token latency, ms", "The gaps between consecutive tokens of an answer"),
    ):
        values = {
            key: sample * 1e3
            for key, sample in _samples(whole, name).items()
            if sample.size and sample.max() > 0
        }
        rows = _latency_rows(results, values)
        if rows:
            note = "; the line is the median, the numbers are p50 / p99."
            yield _ridges(name, title, rows, caption + note, "p50 / p99")


def kld_plot(results: Results) -> Iterator[Plot]:
    """KL divergence of all scored positions, a row for each model."""
    labels = unique([model.name for model in results.models])
    rows = []
    for number, model in enumerate(results.models):
        histogram = getattr(model.quality, "kld_histogram", None)
        if histogram is None or not sum(histogram.counts):
            continue
        kld = model.quality.kld
        rows.append(
            _Row(
                number, labels[number], np.array(histogram.edges, float), np.array(histogram.counts, float),
                kld.median if kld else None, fig.number(kld.mean) if kld else "",
            )
        )  # fmt: skip
    if rows:
        yield _ridges(
            "kld", "KL divergence from the reference", rows,
            "One count for each scored position, logarithmic axis; further left is better. The line is the median, "
            "the number is the mean.", "mean",
        )  # fmt: skip


def _samples(records: Sequence[RequestRecord], name: str) -> dict[tuple[str, str], np.ndarray]:
    """Seconds by model and load. Without gaps of 0, which come of several tokens in one piece."""
    found: dict[tuple[str, str], list[float]] = {}
    for record in records:
        values = record.itl_s if name == "itl" else [] if record.ttft_s is None else [record.ttft_s]
        found.setdefault((record.model, record.load), []).extend(values)
    return {key: np.array([v for v in values if np.isfinite(v) and v > 0]) for key, values in found.items()}


def _latency_rows(results: Results, values: dict[tuple[str, str], np.ndarray]) -> list[_Row]:
    loads = list(dict.fromkeys(load.shape.key for m in results.models for load in m.loads))
    loads = [load for load in loads if any(key[1] == load for key in values)]
    if len(loads) > 2 and len(loads) * len(results.models) > _MOST_ROWS:
        loads = [loads[0], loads[-1]]
    if not loads:
        return []
    pooled = np.concatenate([v for (_, load), v in values.items() if load in loads])
    low, high = pooled.min() / 1.05, pooled.max() * 1.05
    labels = unique([model.name for model in results.models])
    rows = []
    for load in loads:
        for number, model in enumerate(results.models):
            sample = values.get((model.name, load))
            if sample is not None:
                edges = np.geomspace(low, high, int(np.clip(4 * sample.size**0.5, 12, 60)))
                p50, p99 = np.percentile(sample, [50, 99])
                text = f"{fig.number(p50)} / {fig.number(p99)}"
                counts = np.histogram(sample, edges)[0].astype(float)
                rows.append(_Row(number, labels[number], edges, counts, float(p50), text, _load_words(load)))
    return rows


def _load_words(load: str) -> str:
    users = load.removeprefix("c")
    return f"{users} concurrent" if users.isdigit() else load


def _ridges(name: str, title: str, rows: list[_Row], caption: str, head: str) -> Plot:
    groups = list(dict.fromkeys(row.group for row in rows))
    lines = len(rows) + (len(groups) if len(groups) > 1 else 0)
    with Sheet(name, title, 0.75 + _ROW * lines) as sheet:
        axes = sheet.axes
        y = 0.0
        axes.text(
            1.02, 0.05, head, transform=axes.get_yaxis_transform(), color=MUTED, fontsize=7.5, va="bottom"
        )
        for group in groups:
            if len(groups) > 1:
                y -= 1
                axes.text(
                    0,
                    y + 0.15,
                    group,
                    transform=axes.get_yaxis_transform(),
                    color=INK,
                    weight="bold",
                    fontsize=8,
                )
            for row in (row for row in rows if row.group == group):
                y -= 1
                _ridge(sheet, row, y)
        left, right = _limits(rows)
        axes.set_xscale("log")
        axes.set_xlim(left, right)
        axes.set_xticks(*_ticks(left, right))
        axes.minorticks_off()
        axes.set_ylim(y - 0.05, 0)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        return sheet.plot(caption)


def _ridge(sheet: Sheet, row: _Row, y: float) -> None:
    axes = sheet.axes
    # A first edge of 0 has no place on this axis.
    edges = np.maximum(row.edges, row.edges[row.edges > 0].min() / 10)
    heights = row.counts / row.counts.max() * (1 - _LABEL)
    axes.stairs(y + heights, edges, baseline=y, fill=True, color=colour(row.model), alpha=0.75, linewidth=0)
    axes.axhline(y, color=GRID, linewidth=0.8, zorder=0)
    if row.median:
        axes.plot([row.median] * 2, [y, y + 1 - _LABEL], color=INK, linewidth=1.3)
    inside = axes.get_yaxis_transform()
    axes.text(0, y + 1 - _LABEL + 0.06, row.label, transform=inside, color=MUTED, fontsize=7.5, va="bottom")
    axes.text(1.02, y + 0.05, row.text, transform=inside, color=INK, fontsize=7.5, va="bottom")


def _limits(rows: list[_Row]) -> tuple[float, float]:
    """Of the bins that hold anything, with some air."""
    lows, highs = [], []
    for row in rows:
        filled = np.flatnonzero(row.counts)
        positive = row.edges[row.edges > 0].min()
        lows.append(max(row.edges[filled[0]], positive / 10))
        highs.append(row.edges[filled[-1] + 1])
    return min(lows) / 1.1, max(highs) * 1.1


def _ticks(left: float, right: float) -> tuple[list[float], list[str]]:
    """Round numbers, at most about seven of them."""
    decades = range(int(np.floor(np.log10(left))), int(np.ceil(np.log10(right))) + 1)
    ticks: list[float] = []
    for steps in (
        (1,),
        (1, 3),
        (1, 2, 5),
        (1, 1.5, 2, 3, 4, 5, 6, 8),
        tuple(1 + quarter / 4 for quarter in range(36)),
    ):
        finer = [s * 10.0**d for d in decades for s in steps if left <= s * 10.0**d <= right]
        if len(finer) > 7 and len(ticks) > 1:
            break
        ticks = finer
        if len(ticks) >= 4:
            break
    return ticks, [f"{tick:.10g}" for tick in ticks]
