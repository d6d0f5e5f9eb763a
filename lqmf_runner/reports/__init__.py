"""Reports: what a run looks like in the terminal, in Markdown, in HTML and in plots."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..experiments.results import (
    Results, read_config, read_judgements, read_requests, write_results, write_whole,
)  # fmt: skip

if TYPE_CHECKING:
    from .plots.style import Plot

log = logging.getLogger(__name__)


def write_reports(results: Results, folder: Path) -> list[str]:
    """Write results.json, the plots, report.md and report.html, the most important first.

    Returns:
        What could not be written, one sentence each. A full disk, or a library that is missing, costs the file that
        it concerns and nothing else.
    """
    from ..tracking.values import flatten
    from .document import run_document
    from .html import render_html
    from .markdown import render_markdown
    from .plots import draw_plots

    problems: list[str] = []

    def attempt(what: str, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            problems.append(f"{what} could not be written: {error.strerror or error}")

    attempt("results.json", lambda: write_results(results, folder))
    records = read_requests(folder)
    plots: list[Plot] = []
    try:
        plots = draw_plots(results, records)
    except ImportError as error:
        problems.append(f"the plots could not be drawn: {error}")
    for plot in plots:
        attempt(plot.name, lambda plot=plot: write_whole(folder / plot.name, plot.png))  # type: ignore[misc]
    blocks = run_document(
        results, records, plots, dict(flatten(read_config(folder))), read_judgements(folder)
    )
    attempt("report.md", lambda: write_whole(folder / "report.md", render_markdown(blocks).encode()))
    attempt("report.html", lambda: write_whole(folder / "report.html", render_html(blocks).encode()))
    return problems
