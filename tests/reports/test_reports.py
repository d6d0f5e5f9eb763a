"""Reports: what they show, what they escape, and that they fit where they are shown."""

from __future__ import annotations

import io
import resource
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from rich.cells import cell_len
from rich.console import Console

from lqmf_runner.experiments.request_log import RequestLog
from lqmf_runner.experiments.results import ModelResult, Results, read_results
from lqmf_runner.reports import figures as fig
from lqmf_runner.reports import write_reports
from lqmf_runner.reports.columns import summary_columns
from lqmf_runner.reports.markdown import escape
from lqmf_runner.reports.terminal import fit_tables, printable
from tests.experiments.sample import sample_model, sample_record, sample_results

EVIL = (
    "<script>alert(1)</script> ![x](http://evil/x.png) [a](javascript:b) | `` ``` \n# big\n<img src=x onerror=y>\n"
    "````\n</pre></details><b>\x1b[31m\n&amp;"
)


class Tags(HTMLParser):
    """Collects the tags of a page and the text within `pre`."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.pre = ""
        self._in_pre = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self._in_pre = self._in_pre or tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        self._in_pre = self._in_pre and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self._in_pre:
            self.pre += data


def write(folder: Path, results: Results, text: str = "an answer") -> list[str]:
    with RequestLog(folder) as log:
        for model in results.models:
            log.write(sample_record(model.name, "c1", 0, text=text))
    return write_reports(results, folder)


def test_all_files_are_there_and_html_needs_nothing_else(tmp_path: Path) -> None:
    assert write(tmp_path, sample_results(sample_model("a"), sample_model("b", speed=50.0))) == []
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "results.json",
        "requests.jsonl",
        "report.md",
        "report.html",
        "throughput.png",
        "latency.png",
    }
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("data:image/png;base64,") == 2
    assert (tmp_path / "throughput.png").read_bytes().startswith(b"\x89PNG")


def test_what_models_say_is_shown_and_never_interpreted(tmp_path: Path) -> None:
    evil = sample_model("a|b<script>`x`")
    evil.error = EVIL
    evil.notes = [EVIL]
    write(tmp_path, sample_results(evil), EVIL)

    page = Tags()
    page.feed((tmp_path / "report.html").read_text("utf-8"))
    assert not page.seen & {"script", "b", "a", "iframe"}
    assert not {name for name in page.attributes if name.startswith("on")}
    assert EVIL.splitlines()[0] in page.pre

    rendered = Tags()
    rendered.feed(
        MarkdownIt("gfm-like", {"linkify": False}).render((tmp_path / "report.md").read_text("utf-8"))
    )
    assert not rendered.seen & {"script", "b", "a"}
    assert "<img src=x onerror=y>" in rendered.pre


def test_markdown_table_cells_stay_in_their_cells() -> None:
    table = f"| h | i |\n| --- | --- |\n| {escape(EVIL)} | end |\n"
    rendered = MarkdownIt("gfm-like", {"linkify": False}).render(table)
    assert rendered.count("<td") == 2
    assert "<td>end</td>" in rendered


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("models", [1, 3])
def test_the_table_fits_the_terminal_and_loses_no_column(width: int, models: int) -> None:
    results = sample_results(*(sample_model(f"smollm2_number{n}") for n in range(models)))
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    tables = fit_tables(summary_columns(results), results.models, console)
    for table in tables:
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    heads = [str(column.header) for table in tables for column in table.columns]
    assert [head for head in heads if head != "model"] == [c.head for c in summary_columns(results)[1:]]
    assert len(tables) == 1 or width < 160


def test_a_model_that_failed_is_in_the_report_with_its_reason(tmp_path: Path) -> None:
    results = sample_results(
        sample_model("fine"), ModelResult(name="broken", error="DoesNotFitError: too big")
    )
    results.run.status, results.run.reason = "partial", "broken: DoesNotFitError: too big"
    assert write(tmp_path, results) == []
    report = (tmp_path / "report.md").read_text("utf-8")
    assert "This run is partial" in report
    assert "Ended early: DoesNotFitError: too big" in report


def test_a_full_disk_costs_only_what_does_not_fit(tmp_path: Path) -> None:
    results = sample_results(sample_model("a"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, hard))
    try:
        problems = write(tmp_path, results)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert problems
    assert read_results(tmp_path) == results


def test_figures_for_people() -> None:
    assert [fig.number(v) for v in (None, 0.0, 0.1234, 1.234, 12.34, 123.4, 12345.6)] == [
        "–", "0.00", "0.123", "1.23", "12.3", "123", "12,346",
    ]  # fmt: skip
    assert fig.number(0.00021) == "2.1e-04"
    assert [fig.plus_minus(v, e) for v, e in ((0.00321, 0.000358), (17.66, 5.8), (1234.5, 100), (2.0, None))] == [
        "0.00321 ± 0.00036", "17.7 ± 5.8", "1,234 ± 100", "2.00",
    ]  # fmt: skip
    assert fig.percent(0.356) == "36 %"
    assert fig.megabytes(0) == "–"
    assert fig.megabytes(25_276.5) == "25.3 GB"


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[31mb\x07\r\nc") == "a [31mb   c"
