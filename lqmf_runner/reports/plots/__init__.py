"""Plots of a run. Each is drawn once and kept as PNG (for MLflow and Markdown) and as SVG (for the HTML page)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ...results.schema import RequestRecord, Results

if TYPE_CHECKING:
    from .style import Plot


def draw_plots(results: Results, records: Sequence[RequestRecord]) -> list[Plot]:
    """Draw what there is data for.

    Raises:
        ImportError: matplotlib is not installed.
    """
    return list(_plots(results, records))


def _plots(results: Results, records: Sequence[RequestRecord]) -> Iterator[Plot]:
    from .curves import load_plots
    from .pareto import pareto_plot
    from .ridges import kld_plot, latency_plots

    yield from pareto_plot(results)
    yield from load_plots(results)
    yield from latency_plots(results, records)
    yield from kld_plot(results)
