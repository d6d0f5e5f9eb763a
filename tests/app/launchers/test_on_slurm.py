"""Sweeps by submitit: on its local executor, and through commands that stand for Slurm's."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lqmf_runner.app.launchers import on_slurm
from lqmf_runner.app.launchers.job import Job, Outcome
from lqmf_runner.app.launchers.on_slurm import run_on_slurm
from lqmf_runner.app.launchers.settings import SlurmSettings
from lqmf_runner.results.files import read_results
from tests.app.launchers.conftest import Start
from tests.support.slurm import make_slurm

WAIT_S = 120


def test_jobs_of_slurm_are_reported_gathered_and_leave_no_keys(start: Start, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'lqmf-runner[slurm]'")
    sweep = start(
        "tracking.uri=postgresql://joe:s3cret-pw@127.0.0.1:9/db", "model=a,c", "hydra/launcher=lqmf_slurm",
        "hydra.launcher.cluster=local", "hydra.launcher.num_cpus=1",
    )  # fmt: skip
    out, err = sweep.communicate(timeout=WAIT_S)
    assert sweep.returncode == 1, err
    assert "error: job 1 (model=c): cannot reach http://127.0.0.1:9/v1" in err
    assert "not all jobs were sent to MLflow" in err
    assert "s3cret-pw" not in out + err
    (folder,) = (tmp_path / "outputs").glob("*/*")
    assert [read_results(folder / job).run.status for job in "01"] == ["complete", "partial"]
    assert read_results(folder / "0").system.cores == 1
    assert not (folder / ".submitit").exists()
    kept = [path for path in folder.rglob("*") if path.is_file() and b"s3cret-pw" in path.read_bytes()]
    assert kept == []


def trial(job: Job) -> Outcome:
    """Stands for the program: what it does is the job's name. It says which job of Slurm it is."""
    mark = job.folder / job.subdir
    match job.name:
        case "fails":
            raise ValueError("no such model")
        case "takes too long":
            os.kill(os.getpid(), signal.SIGUSR2)  # as Slurm does, a while before it ends a job
        case "is lost once" if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        case "is lost":
            os.kill(os.getpid(), signal.SIGKILL)
        case "overlaps":
            running = len(list(job.folder.glob("running-*")))
            own = job.folder / f"running-{job.number}"
            own.touch()
            try:
                return Outcome(0, (f"{running}",))
            finally:
                own.unlink()
    return Outcome(0, host=os.environ.get("SLURM_ARRAY_JOB_ID", "") or os.environ.get("SLURM_JOB_ID", ""))


def jobs(folder: Path, *names: str) -> list[Job]:
    return [
        Job(number, name, b"", (), (), folder / "sweep", f"{number}", "", folder)
        for number, name in enumerate(names)
    ]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Slurm's commands, tried jobs instead of runs, and waits of tests."""
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'lqmf-runner[slurm]'")
    commands = make_slurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setattr(on_slurm, "run", trial)
    monkeypatch.setattr(on_slurm, "_POLL_S", {"slurm": 0.1, "local": 0.1})
    (tmp_path / "sweep").mkdir()
    yield commands
    for job in (commands / "jobs").iterdir():
        with contextlib.suppress(OSError):
            os.killpg(int(job.read_text()), signal.SIGKILL)


def ended(found: list[Job], cluster: str, **settings: Any) -> tuple[dict[str, Outcome], list[str]]:
    told: list[str] = []
    chosen = SlurmSettings(cluster=cluster, num_cpus=1, **settings)
    outcomes = {job.name: outcome for job, outcome in run_on_slurm(found, chosen, told.append)}
    return outcomes, told


@pytest.mark.parametrize("cluster", ["slurm", "local"])
def test_each_job_ends_as_what_it_was(
    cluster: str, slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitit = pytest.importorskip("submitit")
    if cluster == "slurm":  # it asks Slurm about a job that left nothing every ten minutes only
        monkeypatch.setattr(submitit.SlurmJob.watcher, "_delay_s", 0.2)
    names = ["is done", "fails", "takes too long", "is lost once"]
    outcomes, told = ended(jobs(tmp_path, *names), cluster, timeout_min=1)
    assert {name: outcome.exit_code for name, outcome in outcomes.items()} == {
        "is done": 0,
        "fails": 1,
        "takes too long": 1,
        "is lost once": 0,
    }
    assert outcomes["fails"].said == ("error: fails: ValueError: no such model",)
    assert "ended after hydra.launcher.timeout_min=1 minutes" in outcomes["takes too long"].said[0]
    assert told[1:] == ["is lost once was lost with its node or process; it is run again"]
    assert not (tmp_path / "sweep" / ".submitit").exists()


def test_a_job_that_is_lost_again_and_again_is_given_up(slurm: Path, tmp_path: Path) -> None:
    outcomes, told = ended(jobs(tmp_path, "is lost"), "local", retries=1)
    assert outcomes["is lost"].said == ("error: is lost: it was lost 2 times",)
    assert len(told) == 2


def test_a_sweep_that_is_started_within_a_job_of_an_array(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """submitit would look for the files of the job that it is in: Slurm hands its variables on."""
    for name, value in (("SLURM_ARRAY_JOB_ID", "99"), ("SLURM_ARRAY_TASK_ID", "3"), ("SLURM_JOB_ID", "99")):
        monkeypatch.setenv(name, value)
    outcomes, _ = ended(jobs(tmp_path, "is done"), "slurm")
    (job,) = (slurm / "jobs").iterdir()
    assert (outcomes["is done"].exit_code, outcomes["is done"].host) == (0, job.name)
    assert os.environ["SLURM_ARRAY_JOB_ID"] == "99"


def test_on_this_machine_no_more_jobs_run_than_have_cores(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    found = jobs(tmp_path, *["overlaps"] * 3)
    told: list[str] = []
    settings = SlurmSettings(cluster="local", num_cpus=1)
    outcomes = [outcome for _, outcome in run_on_slurm(found, settings, told.append)]
    assert [outcome.said for outcome in outcomes] == [("0",)] * 3
