"""Reports: what a run looks like in the terminal, in Markdown, in HTML and in plots."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..install import install_line
from ..results.files import RESULTS, read_config, read_judgements, read_requests, write_results, write_whole
from ..results.schema import Results

if TYPE_CHECKING:
    from .plots.style import Plot


def write_reports(results: Results, folder: Path) -> list[str]:
    """Write results.json, the plots, report.md and report.html, the most important first.

    Returns:
        What could not be written, one sentence each. A full disk, or a library that is missing, costs the file that
        it concerns and nothing else.
    """
    from ..results.flat import flatten
    from .document import run_document
    from .html import render_html
    from .markdown import render_markdown
    from .plots import draw_plots

    problems: list[str] = []

    def attempt(name: str, write: Callable[[Path], object]) -> None:
        path = folder / name
        try:
            write(path)
        except OSError as error:
            problems.append(f"{name} could not be written: {error.strerror or error}")
            if name != RESULTS:  # of which an older one is still whole
                path.unlink(missing_ok=True)

    attempt(RESULTS, lambda path: write_results(results, path.parent))
    records = read_requests(folder)
    plots: list[Plot] = []
    try:
        plots = draw_plots(results, records)
    except ImportError as error:
        problems.append(f"the plots could not be drawn: {error}; {install_line()}")
    for plot in plots:
        attempt(plot.name, lambda path, png=plot.png: write_whole(path, png))  # type: ignore[misc]
    blocks = run_document(
        results, records, plots, dict(flatten(read_config(folder))), read_judgements(folder)
    )
    attempt("report.md", lambda path: write_whole(path, render_markdown(blocks).encode()))
    attempt("report.html", lambda path: write_whole(path, render_html(blocks).encode()))
    return problems
