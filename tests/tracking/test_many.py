"""Tracking for many: PostgreSQL and an MLflow server, used by many at once, and going away."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lqmf_runner.config import TrackingConfig
from lqmf_runner.errors import MissingDependencyError, TrackingError, UserInputError
from lqmf_runner.results.files import read_results, write_results
from lqmf_runner.tracking import MlflowTracker, check_driver
from lqmf_runner.tracking.artifacts import ARTIFACTS_TAG
from tests.support.runs.sample import sample_model, sample_results
from tests.support.runs.stores import PASSWORD, Postgres, running_mlflow_server
from tests.tracking.conftest import make_folder

MANY = 16


@pytest.fixture(scope="module")
def mlflow_server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """As a team runs one: the runs in PostgreSQL, the artifacts of all clients in a folder of the server."""
    with running_mlflow_server(postgres.database("server"), tmp_path_factory.mktemp("server")) as server:
        yield server.address


@pytest.mark.parametrize("kind", ["postgres", "server"])
def test_sixteen_jobs_of_a_sweep_on_as_many_machines_are_one_parent_with_sixteen_children(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Each sends from a folder of its own at the same moment, to a database that is empty."""
    if kind == "postgres":
        uri = request.getfixturevalue("postgres").database("sixteen")
    else:
        uri = request.getfixturevalue("mlflow_server")
    folders = []
    for number in range(MANY):
        folder = make_folder(tmp_path / f"machine{number}", sample_model("shared"), sweep="day/time mark")
        folders.append(folder.rename(folder.with_name(str(number))))  # jobs have numbers
    senders = subprocess.run(
        [sys.executable, "-m", "tests.support.runs.many_senders", uri, *map(str, folders)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )  # fmt: skip
    assert senders.returncode == 0, senders.stderr[-3000:]
    whole = tmp_path / "whole"
    results = sample_results(sample_model("shared"))
    results.run.sweep, results.run.compares = "day/time mark", ["0"]
    whole.mkdir()
    write_results(results, whole)
    top = MlflowTracker(TrackingConfig(uri=uri)).send(whole)

    client = MlflowClient(tracking_uri=uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "lqmf"]
    runs = client.search_runs([experiment.experiment_id])
    parents = [run.data.tags.get("mlflow.parentRunId", "") for run in runs]
    assert sorted(parents) == ["", *[top] * MANY]
    assert {run.info.run_id for run in runs} == {top} | {read_results(f).run.mlflow_run_id for f in folders}
    for run in runs:
        assert "results.json" in {file.path for file in client.list_artifacts(run.info.run_id)}
    assert len(client.search_model_versions("name='shared'")) == 1


def test_a_database_that_goes_away_costs_only_the_sending_and_all_is_sent_later(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = TrackingConfig(uri=postgres.database("away"), artifacts=str(tmp_path / "artifacts"))
    folders = [make_folder(tmp_path, sample_model(name)) for name in "ab"]
    postgres.stop()
    try:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(TrackingError, match="cannot be reached") as caught:
            MlflowTracker(config).send(folders[0])
        assert PASSWORD not in f"{caught.value}{caught.value.hint}"
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    finally:
        postgres.start()
    MlflowTracker(config).send_all(folders)
    client = MlflowClient(tracking_uri=config.uri)
    assert {client.get_run(str(read_results(f).run.mlflow_run_id)).info.run_name for f in folders} == {
        "benchmark a GGUF Q4_1",
        "benchmark b GGUF Q4_1",
    }


def test_a_wrong_password_is_one_line_without_the_password(postgres: Postgres, tmp_path: Path) -> None:
    wrong = postgres.uri("postgres").replace(PASSWORD, "wr0ng")
    with pytest.raises(TrackingError, match="password authentication failed") as caught:
        MlflowTracker(TrackingConfig(uri=wrong)).send(make_folder(tmp_path, sample_model("a")))
    assert "wr0ng" not in caught.value.message
    assert "\n" not in caught.value.message


def test_texts_that_a_database_does_not_take_do_not_keep_a_run_from_it(
    postgres: Postgres, tmp_path: Path
) -> None:
    config = TrackingConfig(uri=postgres.database("texts"), artifacts=str(tmp_path / "artifacts"))
    folder = make_folder(tmp_path, sample_model("a"))
    results = read_results(folder)
    results.run.command = "lqmf 'x\0y'"
    write_results(results, folder)
    resolved = folder / ".hydra" / "resolved.json"
    settings = json.loads(resolved.read_text()) | {"note": "a\0b \ud800", "empty": ""}
    resolved.write_text(json.dumps(settings))
    run = MlflowClient(tracking_uri=config.uri).get_run(MlflowTracker(config).send(folder))
    assert run.data.params["note"] == "a\ufffdb ?"
    assert run.data.tags["command"] == "lqmf 'x\ufffdy'"


def test_artifacts_that_others_do_not_see_are_said_to_be_so(postgres: Postgres, tmp_path: Path) -> None:
    config = TrackingConfig(uri=postgres.database("scattered"), artifacts=str(tmp_path / "artifacts"))
    tracker, notes = MlflowTracker(config), list[str]()
    tracker.send(make_folder(tmp_path, sample_model("a")), notes.append)
    tracker.send(make_folder(tmp_path, sample_model("b")), notes.append)
    assert notes == []
    (tmp_path / "artifacts").rename(tmp_path / "the first machine's disk")
    run_id = tracker.send(make_folder(tmp_path, sample_model("c")), notes.append)
    assert f"the artifacts are only on {os.uname().nodename}, in {tmp_path / 'artifacts'}" in notes[0]
    assert MlflowClient(tracking_uri=config.uri).get_run(run_id).data.tags[ARTIFACTS_TAG] == notes[0]


def test_a_server_takes_the_artifacts(mlflow_server: str, tmp_path: Path) -> None:
    config = TrackingConfig(uri=mlflow_server, experiment="served")
    notes: list[str] = []
    run_id = MlflowTracker(config).send(make_folder(tmp_path, sample_model("a")), notes.append)
    assert notes == []
    assert not list(tmp_path.glob("**/mlruns"))
    target = tmp_path / "back"
    target.mkdir()
    MlflowTracker(config).fetch(run_id, target)
    assert read_results(target).run.mlflow_run_id == run_id


def test_a_missing_driver_is_found_before_the_run() -> None:
    wanted = TrackingConfig(uri="postgresql+no_such_driver://host/db")
    with pytest.raises(MissingDependencyError, match="no_such_driver") as caught:
        check_driver(wanted)
    assert "[postgres]" in caught.value.hint
    check_driver(dataclasses.replace(wanted, enabled=False))


def test_the_other_name_of_postgresql_is_explained() -> None:
    with pytest.raises(UserInputError, match="postgres://") as caught:
        TrackingConfig(uri="postgres://joe:pw@host/db")
    assert "postgresql://" in caught.value.hint
    assert "pw" not in f"{caught.value}{caught.value.hint}"
