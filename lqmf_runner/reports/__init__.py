"""Reports: what a run looks like in the terminal, in Markdown, in HTML and in plots."""

from __future__ import annotations

import logging
from pathlib import Path

from ..experiments.results import Results, read_requests, write_results

log = logging.getLogger(__name__)


def write_reports(results: Results, folder: Path) -> list[str]:
    """Write results.json, the plots, report.md and report.html, the most important first.

    Returns:
        What could not be written, one sentence each. A full disk, or a library that is missing, costs the file that
        it concerns and nothing else.
    """
    from .document import benchmark_document
    from .html import render_html
    from .markdown import render_markdown
    from .plots import write_plots

    problems: list[str] = []
    plots: list[Path] = []
    try:
        write_results(results, folder)
    except OSError as error:
        problems.append(f"results.json could not be written: {error.strerror or error}")
    try:
        plots = write_plots(results, folder)
    except (OSError, ImportError) as error:
        problems.append(f"the plots could not be written: {error}")
    try:
        blocks = benchmark_document(results, read_requests(folder), plots)
        (folder / "report.md").write_text(render_markdown(blocks), "utf-8")
        (folder / "report.html").write_text(render_html(blocks), "utf-8")
    except OSError as error:
        problems.append(f"the report could not be written: {error.strerror or error}")
    return problems
