"""MLflow stores that take no runs: results stay, and every error shows the command that mends the store.

Reports of this kind: mlflow #2651, #12947.
"""

from __future__ import annotations

import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lqmf_runner.config import TrackingConfig
from lqmf_runner.errors import TrackingError, UserInputError
from lqmf_runner.results.files import read_results
from lqmf_runner.tracking import MlflowTracker, read_history, send_later_command
from tests.conftest import Run
from tests.support.engine.endpoint import serve
from tests.support.runs.sample import sample_model
from tests.tracking.conftest import make_folder

HERE = {"NO_PROXY": "127.0.0.1"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    """A store with a run, whose experiment is deleted before each test."""
    root = tmp_path_factory.mktemp("a store")
    config = TrackingConfig(uri=f"sqlite:///{root}/mlflow.db", artifacts=str(root / "artifacts"))
    MlflowTracker(config).send(make_folder(root, sample_model("before")))
    return config


@pytest.fixture
def deleted(store: TrackingConfig) -> TrackingConfig:
    client = MlflowClient(tracking_uri=store.uri)
    experiment = client.get_experiment_by_name(store.experiment)
    if experiment.lifecycle_stage == "active":
        client.delete_experiment(experiment.experiment_id)
    return store


def test_all_that_reads_or_writes_a_deleted_experiment_says_how_to_bring_it_back(
    deleted: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = make_folder(tmp_path, sample_model("a"))
    tracker = MlflowTracker(deleted)
    hints = []
    for use in (
        lambda: tracker.send(folder),
        lambda: read_history(deleted),
        lambda: tracker.fetch("0a", tmp_path / "b"),
    ):
        with pytest.raises(TrackingError, match="the experiment lqmf is deleted") as refused:
            use()
        hints.append(str(refused.value.hint))
    command = hints[0].removeprefix("bring it back: ").partition(";")[0]
    assert len(set(hints)) == 1
    assert "mlflow experiments restore -x " in command
    assert "tracking.experiment=" in hints[0]
    later = shlex.split(send_later_command(folder, deleted))
    by_hand = subprocess.run([sys.executable, *later[1:]], capture_output=True, text=True, check=False)
    assert (by_hand.returncode, by_hand.stderr.splitlines()[-1]) == (1, f"hint: {hints[0]}")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    subprocess.run(command, shell=True, check=True, capture_output=True)
    assert tracker.send(folder) == read_results(folder).run.mlflow_run_id
    assert {run.model for run in read_history(deleted)} == {"a", "before"}


def test_a_benchmark_keeps_its_results_and_shows_the_command(
    deleted: TrackingConfig, run_program: Run, tmp_path: Path
) -> None:
    tracking = (f"tracking.uri={deleted.uri}", f"tracking.artifacts={deleted.artifacts}")
    with serve(lambda _: "yes") as endpoint:
        result = run_program(
            *("mode=benchmark", "model=openai", f"backend.base_url={endpoint.url}", "mode.concurrency=[1]"),
            *("mode.requests=1", "mode.warmup=0", *tracking),
            env=HERE,
        )
    assert result.returncode == 0, result.stderr
    (note,) = [line for line in result.stderr.splitlines() if "not sent to MLflow" in line]
    assert "experiments restore -x " in note
    assert "send it later: python -m lqmf_runner.tracking outputs/" in note
    assert list((tmp_path / "outputs").glob("*/*-benchmark/results.json"))
    history = run_program("mode=history", *tracking)
    assert history.returncode == 1
    assert "error: the experiment lqmf is deleted" in history.stderr
    assert "experiments restore -x " in history.stderr


def test_a_store_of_another_version_is_named_with_the_command(store: TrackingConfig, tmp_path: Path) -> None:
    copy = tmp_path / "other.db"
    copy.write_bytes(Path(store.uri.removeprefix("sqlite:///")).read_bytes())
    with sqlite3.connect(copy) as database:
        database.execute("UPDATE alembic_version SET version_num = '0584bdc529eb'")
    other = TrackingConfig(uri=f"sqlite:///{copy}", artifacts=str(tmp_path))
    for use in (
        lambda: MlflowTracker(other).send(make_folder(tmp_path, sample_model("a"))),
        lambda: read_history(other),
    ):
        with pytest.raises(TrackingError, match="another version of MLflow") as refused:
            use()
        assert f"mlflow db upgrade {other.uri}" in str(refused.value.hint)


def test_variables_of_mlflow_count_where_nothing_is_given(
    run_program: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = {"MLFLOW_TRACKING_URI": "http://joe:pw@far:5000", "MLFLOW_EXPERIMENT_NAME": "mine, too"}
    shown = run_program("mode=history", "--cfg", "job", "--resolve", "-p", "tracking", env=names).stdout
    assert "uri: http://joe:pw@far:5000" in shown
    assert "experiment: mine, too" in shown
    given = run_program(
        "mode=history", "tracking.experiment=x", "--cfg", "job", "--resolve", "-p", "tracking", env=names
    )
    assert "experiment: x" in given.stdout
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    config = TrackingConfig(uri=names["MLFLOW_TRACKING_URI"], experiment="mine, too")
    assert send_later_command(Path("x"), config) == "python -m lqmf_runner.tracking x"
    assert "--uri sqlite:///mlruns/mlflow.db" in send_later_command(Path("x"), TrackingConfig())
    with pytest.raises(UserInputError, match=r"tracking\.uri is empty"):
        TrackingConfig(uri="")
