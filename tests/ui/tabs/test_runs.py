"""The tab Runs."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lqmf_runner.results.files import read_results, write_results
from lqmf_runner.results.schema import Results
from lqmf_runner.ui import finished_runs
from lqmf_runner.ui.finished_runs import find_run, list_runs, trust
from lqmf_runner.ui.tabs.runs import _trend

from ...support.runs.sample import sample_model, sample_results
from ...support.screens.browser import visit


def leave_run(outputs: Path, time: str, results: Results) -> str:
    folder = outputs / "2026-01-31" / time
    folder.mkdir(parents=True)
    write_results(results, folder)
    (folder / "report.html").write_text("<h1>The report</h1>")
    return f"2026-01-31/{time}"


async def test_runs_are_listed_and_put_side_by_side_and_the_report_opens(tmp_path: Path):
    leave_run(tmp_path, "10-00-00-compare", sample_results(sample_model("a"), sample_model("b")))
    leave_run(tmp_path, "11-00-00-compare", sample_results(sample_model("a", speed=300.0)))
    async with visit(tmp_path) as seen:
        await seen.open_tab("Runs")
        await (
            seen.tab.locator("#runs-table")
            .get_by_text("2026-01-31/10-00-00-compare")
            .locator("visible=true")
            .click()
        )
        await seen.shows("runs-first", "10-00-00")
        async with seen.tab.context.expect_page() as opened:
            await seen.tab.get_by_role("link", name="Open the report").click()
        report = await opened.value
        assert await report.locator("h1").inner_text() == "The report"
        await report.close()
        await seen.choose("runs-second", "2026-01-31/11-00-00-compare")
        await seen.shows("runs-command", "runs=[")
        await seen.says("tok/s", "#runs-about")


async def test_the_trust_of_a_run_is_seen_without_scrolling(tmp_path: Path):
    names = ("smollm2_q4_k_m", "smollm2_bnb4", "smollm2_bnb8", "smollm2_gptq4", "smollm2_bf16")
    leave_run(tmp_path, "10-00-00-compare", sample_results(*map(sample_model, names)))
    async with visit(tmp_path, width=1280) as seen:
        await seen.open_tab("Runs")
        mark = seen.tab.locator("#runs-table").get_by_text("only 4 requests").locator("visible=true").first
        await mark.wait_for()
        box = await mark.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 1280


def test_batches_and_other_loads_are_lines_of_their_own(tmp_path: Path):
    loads = {"benchmark": (1, 4), "batch": (1,), "compare": (4,)}
    for hour, (mode, users) in enumerate(loads.items(), 10):
        results = sample_results(sample_model("a", users))
        results.run.mode = mode
        leave_run(tmp_path, f"{hour}-00-00-{mode}", results)
    assert set(_trend(list_runs(tmp_path))["model and load"]) == {"a c1", "a batch c1", "a c4"}


def test_only_runs_in_the_folder_are_found(tmp_path: Path):
    name = leave_run(tmp_path / "outputs", "10-00-00-compare", sample_results(sample_model("a")))
    leave_run(tmp_path / "elsewhere", "10-00-00-compare", sample_results(sample_model("a")))
    (tmp_path / "outputs" / "2026-01-31" / "torn").mkdir()
    (tmp_path / "outputs" / "2026-01-31" / "torn" / "results.json").write_text("{")
    assert [run.id for run in list_runs(tmp_path / "outputs")] == [name]
    assert find_run(tmp_path / "outputs", name) is not None
    assert find_run(tmp_path / "outputs", "../elsewhere/2026-01-31/10-00-00-compare") is None
    assert find_run(tmp_path / "outputs", "../elsewhere") is None


def test_a_run_with_few_requests_or_a_failed_model_is_marked(tmp_path: Path):
    results = sample_results(sample_model("a"))
    results.models[0].error = "it broke"
    leave_run(tmp_path, "10-00-00-compare", results)
    assert "a model failed" in trust(list_runs(tmp_path)[0])


async def test_results_are_read_beside_the_answers_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    threads: set[int] = set()

    def reading(folder: Path) -> Results:
        threads.add(threading.get_ident())
        return read_results(folder)

    monkeypatch.setattr(finished_runs, "read_results", reading)
    leave_run(tmp_path, "10-00-00-compare", sample_results(sample_model("a"), sample_model("b")))
    async with visit(tmp_path) as seen:
        await seen.open_tab("Compare")
        await seen.says("a", "#compare-verdict h3")
        await seen.open_tab("Runs")
        await seen.choose("runs-first", "2026-01-31/10-00-00-compare")
        await seen.says("Open the report", "#runs-about")
    assert threads
    assert threading.get_ident() not in threads


def test_other_work_on_the_machine_is_a_mark(tmp_path: Path):
    busy, quiet = sample_model("a"), sample_model("b")
    busy.other_cores, quiet.other_cores = 1.5, 0.1
    leave_run(tmp_path, "10-00-00-compare", sample_results(busy, quiet))
    leave_run(tmp_path, "09-00-00-compare", sample_results(quiet))
    marks = [trust(run) for run in list_runs(tmp_path)]
    assert "other programs used 1.5 cores" in marks[0]
    assert "other programs" not in marks[1]
