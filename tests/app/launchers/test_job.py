"""A job on a machine that does not have the folder of the sweep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lqmf_runner.app.launchers import job as module
from lqmf_runner.app.launchers.job import Job, Outcome, run, unpack
from lqmf_runner.runs.folder import MARK_NAME, sweep_name


def a_job(sweep_dir: Path, mark: str, version: str = module.__version__) -> Job:
    return Job(1, "job 1 (model=a)", b"", (), (), sweep_dir, "1", mark, sweep_dir, version)


def test_its_files_come_back_under_the_name_of_the_sweep(tmp_path: Path, monkeypatch: object) -> None:
    sweep_dir = tmp_path / "outputs" / "2026-01-01" / "10-00-00-benchmark"
    sweep_dir.mkdir(parents=True)
    name = sweep_name(sweep_dir)
    mark = (sweep_dir / MARK_NAME).read_text()
    seen: list[str] = []

    def work(job: Job) -> tuple[int, str]:
        seen.append(sweep_name(job.sweep_dir))
        (job.sweep_dir / "1").mkdir()
        (job.sweep_dir / "1" / "results.json").write_text("figures")
        return 0, "a line of a library\nerror: said\n"

    monkeypatch.setattr(module, "_run_packed", work)  # type: ignore[attr-defined]
    elsewhere = run(a_job(tmp_path / "missing" / "2026-01-01" / "10-00-00-benchmark", mark))
    assert seen == [name]
    assert (elsewhere.exit_code, elsewhere.said) == (0, ("error: said",))
    assert elsewhere.files is not None
    unpack(elsewhere.files, sweep_dir / "1")
    assert (sweep_dir / "1" / "results.json").read_text() == "figures"
    (sweep_dir / "1" / "results.json").unlink()
    (sweep_dir / "1").rmdir()
    assert run(a_job(sweep_dir, mark)).files is None
    assert (sweep_dir / "1" / "results.json").exists()


@pytest.mark.parametrize("shared", [True, False])
def test_an_error_of_the_machine_is_told_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    sweep_dir = tmp_path / "10-00-00-benchmark"
    sweep_dir.mkdir()
    sweep_name(sweep_dir)
    mark = (sweep_dir / MARK_NAME).read_text() if shared else "another"

    def work(job: Job) -> tuple[int, str]:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(module, "_run_packed", work)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        run(a_job(sweep_dir, mark))


def test_another_version_of_the_program_is_refused(tmp_path: Path) -> None:
    outcome = run(a_job(tmp_path, "", version="0.0.1"))
    assert isinstance(outcome, Outcome)
    assert outcome.exit_code == 1
    assert "has lqmf-runner" in outcome.said[0]
    assert "0.0.1" in outcome.said[0]


def test_an_error_that_is_none_of_ours_is_reported_too(tmp_path: Path) -> None:
    """The configuration of the job cannot be unpacked here."""
    outcome = run(replace(a_job(tmp_path, ""), share_cores=True))
    assert outcome.exit_code == 1
    assert outcome.said[0].startswith("error: job 1 (model=a): EOFError")
