"""Reports: what they show, what they escape, and that they fit where they are shown."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import NoReturn

import pytest
from markdown_it import MarkdownIt

from lqmf_runner.reports import write_reports
from lqmf_runner.results.files import read_results
from lqmf_runner.results.logs.request_log import RequestLog
from lqmf_runner.results.schema import ModelResult, Results
from lqmf_runner.results.verdict import Verdict
from tests.support.runs.sample import sample_model, sample_record, sample_results
from tests.support.screens.page import EVIL, Page

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


def test_a_missing_package_costs_the_plots_and_says_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_package(*_: object) -> NoReturn:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

    monkeypatch.setattr("lqmf_runner.reports.plots.draw_plots", no_package)
    (problem,) = write(tmp_path, sample_results(sample_model("a")))
    assert "No module named 'matplotlib'" in problem
    assert "pip install" in problem
    assert (tmp_path / "report.html").exists()
