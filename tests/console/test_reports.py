"""Reports in the console: what is shown of the newest one, and that each step over results shows its command."""

from __future__ import annotations

from pathlib import Path

import pytest

from lqmf_runner.console.records import MACHINE
from lqmf_runner.reports import write_reports
from lqmf_runner.results.files import write_results
from tests.conftest import Run
from tests.support.runs.sample import sample_model, sample_results


@pytest.fixture
def compared(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs" / "2026-01-31" / "10-00-00-compare"
    folder.mkdir(parents=True)
    results = sample_results(sample_model("a", (1, 4)), sample_model("b", (1, 4), speed=300.0))
    write_results(results, folder)
    write_reports(results, folder)
    return folder


def test_a_report_is_shown_without_the_configuration_and_says_where_its_plots_are(
    run_program: Run, compared: Path
) -> None:
    assert f"\n{MACHINE}\n" in (compared / "report.md").read_text()
    result = run_program("mode=console", "console.say=show the last report and open it")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("→ sed '/^## Run and machine$/,$d' ") == 1
    assert "## Comparison" in result.stdout
    assert f"\n{MACHINE}\n" not in result.stdout
    assert (compared / "report.html").as_uri() in result.stdout


def test_each_verdict_for_a_number_of_users_shows_its_command(run_program: Run, compared: Path) -> None:
    result = run_program("mode=console", "console.say=best for 1 and 4 users")
    assert result.returncode == 0, result.stderr
    shown = [line for line in result.stdout.splitlines() if line.startswith("→ lqmf compare ")]
    assert ["verdict.concurrency=1" in line for line in shown] == [True, False]
    assert ["verdict.concurrency=4" in line for line in shown] == [False, True]
