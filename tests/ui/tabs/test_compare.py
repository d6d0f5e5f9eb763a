"""The tab Compare."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

from lqmf_runner.results.files import read_results
from lqmf_runner.types import MemoryUse

from ...support.models.tiny import make_gguf
from ...support.runs.sample import sample_model, sample_results
from ...support.screens.browser import visit
from .test_runs import leave_run


async def test_sliders_reorder_at_once_what_was_measured(tmp_path: Path):
    slow, fast = sample_model("slow"), sample_model("fast", speed=300.0)
    slow.memory, fast.memory = _memory(100.0), _memory(9000.0)
    leave_run(tmp_path, "10-00-00-compare", sample_results(slow, fast))
    async with visit(tmp_path) as seen:
        await seen.open_tab("Compare")
        await seen.says("slow", "#compare-verdict h3")
        for elem_id, value, winner in (
            ("compare-speed", "200", "fast"),
            ("compare-memory", "1000", "None"),
        ):
            number = seen.tab.locator(f"#{elem_id} input[type=number]")
            await number.fill(value)
            await number.press("Enter")
            await seen.says(winner, "#compare-verdict h3")
        line = shlex.split(await seen.shows("compare-command", "verdict.max_memory_mb=1000"))
        assert "verdict.min_tokens_per_s=200" in line
        # It judges these results again; models=[...] would measure.
        run = tmp_path / "2026-01-31" / "10-00-00-compare"
        assert line[:3] == ["lqmf", "compare", f"runs=[{run}]"]


async def test_a_comparison_that_the_page_starts_ends_and_its_report_opens(tmp_path: Path):
    for name in ("m", "other"):
        (tmp_path / "models" / name).mkdir(parents=True)
        make_gguf(tmp_path / "models" / name / "model.gguf")
    async with visit(tmp_path / "outputs", models_dir=str(tmp_path / "models")) as seen:
        await seen.open_tab("Compare")
        await seen.choose("compare-models", "m")
        await seen.choose("compare-models", "other")
        await seen.field("compare-users").fill("1")
        await seen.tab.locator("#compare-requests input").fill("2")
        await seen.click("Measure")
        await seen.says("Open the report", "#compare-progress")
        await seen.shows("compare-run", "-compare")
        async with seen.tab.context.expect_page() as opened:
            await seen.tab.locator("#compare-progress").get_by_role("link").click()
        report = await opened.value
        await report.get_by_text("other").first.wait_for()


async def test_a_comparison_is_cancelled_and_what_was_measured_is_kept(tmp_path: Path):
    outputs = tmp_path / "outputs"
    for name in ("m", "other"):
        (tmp_path / "models" / name).mkdir(parents=True)
        make_gguf(tmp_path / "models" / name / "model.gguf")
    async with visit(outputs, models_dir=str(tmp_path / "models")) as seen:
        await seen.open_tab("Compare")
        await seen.choose("compare-models", "m")
        await seen.choose("compare-models", "other")
        await seen.field("compare-users").fill("1")
        await seen.tab.locator("#compare-requests input").fill("1000000")
        await seen.click("Measure")
        async with asyncio.timeout(120):
            while not any(path.stat().st_size for path in outputs.glob("*/*/requests.jsonl")):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await seen.tab.reload()  # it goes on, and can still be cancelled
        await seen.open_tab("Compare")
        await seen.says("reference if there is one", "#compare-progress")
        await seen.click("Cancel")
        await seen.says("Cancelled", "#compare-progress")
        (run,) = outputs.glob("*/*-compare")
        async with asyncio.timeout(60):
            while not (run / "report.html").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert read_results(run).run.reason == "interrupted"


def _memory(mb: float) -> MemoryUse:
    return MemoryUse(rss_mb=mb, peak_rss_mb=mb)
