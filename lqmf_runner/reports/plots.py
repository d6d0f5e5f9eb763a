"""Plots of a run as PNG files: throughput, and latency, over concurrency."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..experiments.results import LoadResult, ModelResult, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette: told apart with any colour vision, and in print with the markers.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"


def write_plots(results: Results, folder: Path) -> list[Path]:
    """Draw what there is to draw; returns the files.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: a file could not be written.
    """
    models = [model for model in results.models if _points(model, lambda load: load.output_tokens_per_s)]
    if not models:
        return []
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    def save(figure: Figure, name: str) -> Path:
        FigureCanvasAgg(figure)
        path = folder / name
        figure.savefig(path, dpi=130)
        return path

    throughput = Figure(figsize=(7, 4.2), layout="constrained")
    axes = throughput.add_subplot()
    _draw(axes, models, lambda load: load.output_tokens_per_s)
    _dress(axes, models, "Throughput", "output tokens per second")
    _legend(axes, len(models))

    latency = Figure(figsize=(10, 4.2), layout="constrained")
    ttft, itl = latency.subplots(1, 2)
    for axes, title, p50, p99 in (
        (ttft, "Time to first token", lambda load: load.ttft_s.p50, lambda load: load.ttft_s.p99),
        (itl, "Inter-token latency", lambda load: load.itl_s.p50, lambda load: load.itl_s.p99),
    ):
        _draw(axes, models, p50, scale=1e3)
        _draw(axes, models, p99, scale=1e3, dashed=True)
        _dress(axes, models, f"{title}: p50 (solid), p99 (dashed)", "milliseconds")
    _legend(ttft, len(models))
    return [save(throughput, "throughput.png"), save(latency, "latency.png")]


def _points(model: ModelResult, value: Callable[[LoadResult], float | None]) -> list[tuple[int, float]]:
    """Concurrency and value of the closed loads, in order of concurrency."""
    found = [(load.shape.concurrency, value(load)) for load in model.loads]
    return sorted((c, v) for c, v in found if c is not None and v is not None)


def _draw(
    axes: Axes,
    models: list[ModelResult],
    value: Callable[[LoadResult], float | None],
    *,
    scale: float = 1.0,
    dashed: bool = False,
) -> None:
    for number, model in enumerate(models):
        points = _points(model, value)
        style: dict[str, Any] = (
            {"linestyle": "--", "alpha": 0.6, "linewidth": 1.2} if dashed else {"label": model.name}
        )
        axes.plot(
            [c for c, _ in points],
            [v * scale for _, v in points],
            color=_COLOURS[number % len(_COLOURS)],
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=4 if dashed else 6,
            **style,
        )


def _dress(axes: Axes, models: list[ModelResult], title: str, unit: str) -> None:
    ticks = sorted(
        {load.shape.concurrency for model in models for load in model.loads if load.shape.concurrency}
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(ticks[0] / 1.3, ticks[-1] * 1.3)
    axes.set_ylim(bottom=0)
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel("concurrent requests")
    axes.set_ylabel(unit)
    axes.grid(visible=True, color="0.9")
    axes.spines[["top", "right"]].set_visible(False)


def _legend(axes: Axes, models: int) -> None:
    axes.legend(frameon=False, fontsize=9 if models <= 6 else 7)
