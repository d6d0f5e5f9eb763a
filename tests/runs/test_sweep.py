"""Sweeps as a user runs them, over an endpoint that answers at once: one table at the end, resume, failing jobs."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from lqmf_runner.errors import UserInputError
from lqmf_runner.results.files import read_results, write_results
from lqmf_runner.results.schema import Results
from lqmf_runner.runs.folder import sweep_name
from lqmf_runner.runs.sweep import is_complete
from tests.conftest import Run
from tests.support.engine.endpoint import RecordingEndpoint, configure, serve
from tests.support.runs.sample import sample_model, sample_results

Sweep = Callable[..., subprocess.CompletedProcess[str]]
NOWHERE = "http://127.0.0.1:9/v1"


@pytest.fixture
def endpoint() -> Iterator[RecordingEndpoint]:
    """A server that answers at once."""
    with serve(lambda _: "Paris.") as endpoint:
        yield endpoint


@pytest.fixture
def sweep(run_program: Run, tmp_path: Path, endpoint: RecordingEndpoint) -> Sweep:
    """Run `-m mode=benchmark` with models a and b, which answer, and c, which nobody serves."""
    configure(tmp_path / "own", a=endpoint.url, b=endpoint.url, c=NOWHERE)

    def run(*args: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
        return run_program(
            "-m", "mode=benchmark", "--config-dir", "own", "tracking=none", "mode.concurrency=[1]", "mode.requests=2",
            "mode.warmup=0", *args, env={"NO_PROXY": "127.0.0.1"}, stdout=stdout,
        )  # fmt: skip

    return run


def the_sweep(root: Path) -> Path:
    (folder,) = (root / "outputs").glob("*/*")
    return folder


def results_of(root: Path) -> Results:
    return read_results(the_sweep(root))


def test_a_sweep_ends_with_one_table_and_a_verdict_and_can_be_resumed(
    sweep: Sweep, endpoint: RecordingEndpoint, tmp_path: Path
) -> None:
    """The failing job is reported and the rest goes on; a second run does what is missing and nothing else."""
    first = sweep("model=a,c", "mode.sampling.max_tokens=4,8")
    assert first.returncode == 1
    for job, tokens in ((2, 4), (3, 8)):
        assert f"error: job {job} (model=c, mode.sampling.max_tokens={tokens}): " in first.stderr
    results = results_of(tmp_path)
    assert (results.run.status, results.run.reason) == ("partial", "2 of 4 jobs are not complete")
    assert [m.name for m in results.models] == [f"{model} max_tokens={n}" for model in "ac" for n in (4, 8)]
    assert results.verdict is not None
    jobs = (read_results(the_sweep(tmp_path) / job) for job in "0123")
    assert {job.run.sweep for job in jobs} == {results.run.sweep}
    assert sorted(m.name for m in results.verdict.models if m.error) == ["c max_tokens=4", "c max_tokens=8"]
    assert "Verdict: " in first.stdout
    assert "sampling settings differ" in first.stdout
    assert "c max_tokens=4 failed and is not judged" in first.stdout
    folder = the_sweep(tmp_path)
    assert {p.name for p in folder.iterdir()} >= {"report.html", "report.md", "results.json", "0", "3"}
    assert len(endpoint.asked) == 4

    kept = (folder / "0" / "requests.jsonl").read_bytes()
    (folder / "1" / "results.json").write_text("{")  # killed while it was at it
    again = sweep("model=a,c", "mode.sampling.max_tokens=4,8", f"hydra.sweep.dir={folder}")
    assert "job 0 is complete already" in again.stderr
    assert len(endpoint.asked) == 6
    assert (folder / "0" / "requests.jsonl").read_bytes() == kept
    assert len((folder / "1" / "requests.jsonl").read_text().splitlines()) == 2
    assert len(results_of(tmp_path).models) == 4


def the_program() -> psutil.Process:
    """The process that was started last: another test's may not have ended yet."""
    return max(psutil.Process().children(), key=psutil.Process.create_time)


def test_an_interrupted_sweep_gives_the_terminal_back_and_says_how_to_go_on(
    sweep: Sweep, endpoint: RecordingEndpoint, tmp_path: Path
) -> None:
    """Ctrl-C in the second job: no table, no report of that job; the first is kept and a later run does the rest."""

    def interrupt(number: int) -> None:
        if number == 3:
            the_program().send_signal(signal.SIGINT)

    endpoint.on_asked = interrupt
    stopped = sweep("model=a,b")
    folder = the_sweep(tmp_path)
    assert stopped.returncode == 130, stopped.stderr
    assert f"hydra.sweep.dir={folder.relative_to(tmp_path)}" in stopped.stderr
    assert "Verdict" not in stopped.stdout
    assert [read_results(folder / job).run.status for job in "01"] == ["complete", "partial"]
    assert not (folder / "1" / "report.html").exists()
    again = sweep("model=a,b", f"hydra.sweep.dir={folder}")
    assert again.returncode == 0, again.stderr
    assert "job 0 is complete already" in again.stderr
    assert results_of(tmp_path).run.status == "complete"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_a_job_is_sent_ends_the_sweep(
    sweep: Sweep, endpoint: RecordingEndpoint, tmp_path: Path, number: signal.Signals
) -> None:
    """The endpoint is the tracking server too: asked for the experiment, it interrupts the program."""

    def interrupt(path: str) -> None:
        if "mlflow" in path:
            the_program().send_signal(number)

    endpoint.on_listed = interrupt
    stopped = sweep("model=a,b", "tracking=mlflow", f"tracking.uri={endpoint.url.removesuffix('/v1')}")
    assert stopped.returncode == 130, stopped.stderr
    folder = the_sweep(tmp_path)
    assert "not sent to MLflow (interrupted); send it later: " in stopped.stderr
    assert f"hydra.sweep.dir={folder.relative_to(tmp_path)}" in stopped.stderr
    assert read_results(folder / "0").run.status == "complete"
    assert not (folder / "1").exists()


def test_a_sweep_goes_on_where_who_reads_its_tables_has_left(
    sweep: Sweep, closed_pipe: int, tmp_path: Path
) -> None:
    done = sweep("model=a,b", stdout=closed_pipe)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr
    assert [model.name for model in results_of(tmp_path).models] == ["a", "b"]


def test_a_job_is_skipped_only_if_it_is_the_same(tmp_path: Path) -> None:
    results = sample_results(sample_model("a"))
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "resolved.json").write_text('{"mode": {"warmup": 2}}')
    write_results(results, tmp_path)
    assert is_complete(tmp_path, {"mode": {"warmup": 2}})
    with pytest.raises(UserInputError, match="other settings"):
        is_complete(tmp_path, {"mode": {"warmup": 3}})
    results.run.status = "partial"
    write_results(results, tmp_path)
    lines = [tmp_path / f"{name}.jsonl" for name in ("requests", "judgements", "system")]
    for path in lines:
        path.touch()
    assert not is_complete(tmp_path, {"mode": {"warmup": 2}})
    assert not any(path.exists() for path in lines)
    assert not is_complete(tmp_path / "elsewhere", {})


def test_jobs_share_the_name_of_their_sweep_and_no_other_sweep_has_it(tmp_path: Path) -> None:
    """Not one of another machine that began in the same second, nor one that ran in this folder before."""
    here, elsewhere = (tmp_path / root / "2026-01-01" / "02-00-01-benchmark" for root in "ab")
    here.mkdir(parents=True)
    elsewhere.mkdir(parents=True)
    with ThreadPoolExecutor() as jobs:
        (name,) = set(jobs.map(lambda _: sweep_name(here), range(8)))
    assert name.startswith("2026-01-01/02-00-01-benchmark ")
    assert sweep_name(elsewhere) != name
    shutil.rmtree(here)
    here.mkdir()
    assert sweep_name(here) != name


def test_a_sweep_that_is_refused_leaves_nothing_behind(run_program: Run, tmp_path: Path) -> None:
    result = run_program("-m", "mode=benchmark", "model=smollm2_gguf,smolm2_bnb4")
    assert result.returncode == 2
    assert "did you mean smollm2_bnb4?" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_jobs_of_the_joblib_launcher_are_gathered_too(sweep: Sweep, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    result = sweep("model=a,b", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert result.returncode == 0, result.stderr
    results = results_of(tmp_path)
    assert results.run.status == "complete"
    assert [model.name for model in results.models] == ["a", "b"]
    for job in "01":
        command = read_results(the_sweep(tmp_path) / job).run.command
        assert "hydra/launcher=joblib" in command, "the command of a job is that of the sweep"
