"""Throughput over concurrency, and over the offered rate where loads had one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ...results.schema import LoadResult, ModelResult, Results, Shape
from .style import Plot, Sheet, colour, marker, unique


@dataclass(frozen=True)
class _Point:
    """`error` is half of the 95 % interval, 0 where it is not known."""

    x: float
    y: float
    error: float


def load_plots(results: Results) -> Iterator[Plot]:
    """Output tokens per second over concurrency; median TTFT over the arrival rate."""
    yield from _line_plot(
        results.models, "throughput", "Throughput over concurrency", "concurrent requests", "output tokens / s",
        "Output tokens per second of all users together; higher is better.",
        lambda shape: shape.concurrency, lambda load: load.output_tokens_per_s, "output_tokens_per_s",
    )  # fmt: skip
    yield from _line_plot(
        results.models, "rates", "Time to first token over offered rate", "requests / s", "TTFT p50, ms",
        "It rises steeply where requests arrive faster than they are answered; lower is better.",
        lambda shape: shape.rate, lambda load: None if load.ttft_s.p50 is None else load.ttft_s.p50 * 1e3, "",
    )  # fmt: skip


def _line_plot(
    models: list[ModelResult],
    name: str,
    title: str,
    x_label: str,
    y_label: str,
    caption: str,
    x: Callable[[Shape], float | None],
    y: Callable[[LoadResult], float | None],
    estimate: str,
) -> Iterator[Plot]:
    series = [_points(model, x, y, estimate) for model in models]
    ticks = sorted({point.x for points in series for point in points})
    if len(ticks) < 2:
        return  # one load is a number, and the table has it
    labels = unique([model.name for model in models])
    with Sheet(name, title) as sheet:
        axes = sheet.axes
        for number, points in enumerate(series):
            if points:
                bars = [point.error for point in points]
                axes.errorbar(
                    [p.x for p in points], [p.y for p in points], bars if any(bars) else None, label=labels[number],
                    color=colour(number), marker=marker(number), markersize=5, linewidth=1.4, capsize=2.5,
                )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlim(ticks[0] / 1.2, ticks[-1] * 1.2)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        shown = [label for label, points in zip(labels, series, strict=True) if points]
        sheet.legend(len(shown), max(map(len, shown)))
        if any(point.error for points in series for point in points):
            caption += " Bars: 95 % confidence interval over the repeats."
        yield sheet.plot(caption)


def _points(
    model: ModelResult,
    x: Callable[[Shape], float | None],
    y: Callable[[LoadResult], float | None],
    estimate: str,
) -> list[_Point]:
    points = []
    for load in model.loads:
        at, value = x(load.shape), y(load)
        if at and value is not None:
            interval = getattr(load, "repeats", {}).get(estimate)
            points.append(_Point(at, value, interval.ci95 if interval else 0.0))
    return sorted(points, key=lambda point: point.x)
