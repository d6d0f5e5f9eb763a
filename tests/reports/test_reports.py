"""Reports: what they show, what they escape, and that they fit where they are shown."""

from __future__ import annotations

import io
import resource
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.cells import cell_len
from rich.console import Console

from lqmf_runner.reports import figures as fig
from lqmf_runner.reports import write_reports
from lqmf_runner.reports.columns import best_cells, summary_columns
from lqmf_runner.reports.display import fit_tables, printable
from lqmf_runner.reports.markdown import escape
from lqmf_runner.reports.side_by_side import compare_answers, split_at_parting
from lqmf_runner.results.files import read_requests, read_results
from lqmf_runner.results.request_log import RequestLog
from lqmf_runner.results.schema import ModelResult, Results
from lqmf_runner.results.verdict import Verdict
from tests.support.sample import sample_model, sample_record, sample_results

EVIL = (
    "<script>alert(1)</script> ![x](http://evil/x.png) [a](javascript:b) | `` ``` \n# big\n<img src=x onerror=y>\n"
    "````\n</pre></details><b>\x1b[31m\n&amp;"
)


class Page(HTMLParser):
    """Collects what a page is made of: tags, attributes, headings, marked words, and the text within `pre`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.figures: list[str] = []
        self.within: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag == "figure":
            self.figures.append(dict(attrs)["aria-label"] or "")
        if tag not in ("meta", "br", "hr", "img"):
            self._open.append(tag)
            self.within.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.within[tag][-1] += data

    @property
    def pre(self) -> str:
        return "".join(self.within.get("pre", []))


VERDICT = Verdict(winner=None, headline="None qualifies", sentences=["b is nearest."], reference="ref")


def page_of(folder: Path, results: Results) -> str:
    assert write_reports(results, folder) == []
    return (folder / "report.html").read_text("utf-8")


def write(folder: Path, results: Results, text: str = "an answer") -> list[str]:
    with RequestLog(folder) as log:
        for model in results.models:
            log.write(sample_record(model.name, "c1", 0, text=text))
    return write_reports(results, folder)


def test_all_files_are_there_and_html_needs_nothing_else(tmp_path: Path) -> None:
    assert write(tmp_path, sample_results(sample_model("a"), sample_model("b", speed=50.0))) == []
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "results.json", "requests.jsonl", "report.md", "report.html", "throughput.png", "ttft.png", "itl.png",
    }  # fmt: skip
    text = (tmp_path / "report.html").read_text("utf-8")
    page = Page(text)
    assert page.figures == [
        "Throughput over concurrency",
        "Time to first token, ms",
        "Inter-token latency, ms",
    ]
    assert "http://" not in text
    assert "https://" not in text
    assert not page.seen & {"script", "link", "iframe", "object", "img"}
    assert {link[:1] for link in page.links} <= {"#"}
    assert "default-src 'none'" in text
    assert (tmp_path / "throughput.png").read_bytes().startswith(b"\x89PNG")


def test_what_models_say_is_shown_and_never_interpreted(tmp_path: Path) -> None:
    evil = sample_model("a|b<script>`x`$\\frac$")
    evil.error = EVIL
    evil.notes = [EVIL]
    write(tmp_path, sample_results(evil), EVIL)

    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert not page.seen & {"script", "b", "a", "iframe"}
    assert not {name for name in page.attributes if name.startswith("on")}
    assert EVIL.splitlines()[0] in page.pre

    rendered = Page(
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
    assert "broken ended early: DoesNotFitError: too big" in report


def test_sections_without_data_are_left_out(tmp_path: Path) -> None:
    bare = Page(page_of(tmp_path, sample_results(ModelResult(name="a", error="gone"))))
    assert bare.figures == []
    assert bare.within["h2"] == ["Comparison", "Run it again", "Run and machine"]


def test_the_verdict_comes_first_and_the_command_can_be_copied(tmp_path: Path) -> None:
    results = sample_results(sample_model("a"), sample_model("b"))
    results.verdict = VERDICT
    results.run.command = "python -m lqmf_runner mode=compare 'models=[a,b]'"
    page = Page(page_of(tmp_path, results))
    assert page.within["h2"][0] == "Verdict"
    assert VERDICT.headline in page.within["section"][0]
    assert results.run.command in page.within["pre"]
    assert "> **Verdict:" in (tmp_path / "report.md").read_text("utf-8")


def test_the_best_of_a_column_is_marked_and_a_tie_is_shared() -> None:
    slow, fast, partial = sample_model("s", speed=50.0), sample_model("f"), sample_model("p", speed=400.0)
    partial.loads = [msgspec.structs.replace(load, partial=True) for load in partial.loads]
    models = [slow, fast, partial]
    columns = summary_columns(sample_results(*models))
    heads = [column.head.partition("\n")[0] for column in columns]
    best = {(models[row].name, heads[column]) for row, column in best_cells(columns, models)}
    assert best == {("f", "tok/s")}  # sizes, memory and latencies are the same for all


def test_answers_are_held_to_the_references(tmp_path: Path) -> None:
    results = sample_results(*(sample_model(name) for name in ("a", "ref", "b", "silent")))
    results.verdict = VERDICT
    texts = {"a": "one two  three four", "ref": "one two THREE four", "b": "one two THREE", "silent": ""}
    with RequestLog(tmp_path) as log:
        for name, text in texts.items():
            log.write(sample_record(name, "c1", 0, text=text))
    records = read_requests(tmp_path)
    (comparison,) = compare_answers(results, records, {"p0": "Count."}, 5)
    assert comparison.prompt == "Count."
    assert [(x.model, x.parting, x.note) for x in comparison.answers] == [
        ("ref", "", ""),
        ("a", "three", "parts from ref after 2 words"),
        ("b", "", "the same, but ends after 3 words"),
        ("silent", "", "the same, but ends after 0 words"),
    ]
    assert write_reports(results, tmp_path) == []
    page = (tmp_path / "report.html").read_text("utf-8")
    assert Page(page).within["mark"] == ["three"]
    assert "parts from that of ref, the reference." in page
    results.models = [model for model in results.models if model.name != "ref"]
    assert write_reports(results, tmp_path) == []
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "parts from that of a, the first model: the reference ref is not among the models" in page


@given(st.text(), st.text())
def test_the_parts_of_an_answer_join_to_it(base: str, other: str) -> None:
    same, parting, rest = split_at_parting(base, other)
    assert same + parting + rest == other
    assert base.split()[: len(same.split())] == same.split()
    assert bool(parting) == (other.split() != base.split()[: len(other.split())])


def test_a_full_disk_costs_only_what_does_not_fit(tmp_path: Path) -> None:
    results = sample_results(sample_model("a"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, hard))
    try:
        problems = write(tmp_path, results)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert problems
    assert read_results(tmp_path) == results
    assert all(path.stat().st_size < 15_000 and path.stat().st_size for path in tmp_path.iterdir()), (
        "no halves"
    )


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
