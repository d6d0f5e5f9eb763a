"""Stores that go away while a run is being sent: the folder is whole, and the run is sent later, once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mlflow import MlflowClient

from lqmf_runner.config import TrackingConfig
from lqmf_runner.errors import TrackingError
from lqmf_runner.results.files import read_results
from lqmf_runner.tracking import MlflowTracker
from lqmf_runner.tracking.mlflow_session import send_session
from lqmf_runner.tracking.mlflow_store import _Sender, send_folder
from lqmf_runner.tracking.session import SENT_NAME, SESSION_NAME, Session
from tests.support.runs.sample import sample_model
from tests.support.runs.stores import MlflowServer, Postgres, running_mlflow_server
from tests.tracking.conftest import make_folder


@pytest.fixture(scope="module")
def mlflow_server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with running_mlflow_server(postgres.database("served"), tmp_path_factory.mktemp("server")) as server:
        yield server


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def the_runs_of(folder: Path, uri: str) -> list[Any]:
    """All runs that the store shows of this folder."""
    client = MlflowClient(tracking_uri=uri)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(ids, f"tags.`lqmf.run_id` = '{read_results(folder).run.id}'"))


def check_sent_once(folder: Path, uri: str) -> None:
    (run,) = the_runs_of(folder, uri)
    assert run.info.run_id == read_results(folder).run.mlflow_run_id
    assert run.info.status == "FINISHED"
    assert "model.name" in run.data.params
    assert "c1/ttft_s.p50" in run.data.metrics
    found = {file.path for file in MlflowClient(tracking_uri=uri).list_artifacts(run.info.run_id)}
    assert {"results.json", "report.md"} <= found


@pytest.mark.parametrize("step", ["_log_samples", "_log_files"])
def test_a_database_that_fails_at_any_step_of_a_send(
    step: str, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = TrackingConfig(uri=postgres.database(f"fails{step}"), artifacts=str(tmp_path / "artifacts"))
    folder = make_folder(tmp_path, sample_model("a"))
    before = files(folder)
    really = getattr(_Sender, step)

    def fail(self: _Sender, *words: Any, **named: Any) -> Any:
        postgres.stop()
        return really(self, *words, **named)

    with monkeypatch.context() as failing:
        failing.setattr(_Sender, step, fail)
        failing.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)  # else it tries for minutes
        try:
            with pytest.raises(TrackingError):
                send_folder(folder, config)
        finally:
            postgres.kill()
            postgres.start()
    assert files(folder) == before
    MlflowTracker(config).send(folder)
    check_sent_once(folder, config.uri)


def test_a_database_that_hangs_in_mid_send_and_then_dies(postgres: Postgres, tmp_path: Path) -> None:
    config = TrackingConfig(uri=postgres.database("hangs"), artifacts=str(tmp_path / "artifacts"))
    MlflowTracker(config).send(make_folder(tmp_path, sample_model("first")))
    folder = make_folder(tmp_path, sample_model("a"))
    check_hang(folder, config, postgres, "hangs", postgres)


def test_an_mlflow_server_that_hangs_in_mid_send_and_then_dies(
    postgres: Postgres, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    config = TrackingConfig(uri=mlflow_server.address)
    MlflowTracker(config).send(make_folder(tmp_path, sample_model("first")))
    folder = make_folder(tmp_path, sample_model("a"))
    check_hang(folder, config, postgres, "served", mlflow_server)


def check_hang(
    folder: Path, config: TrackingConfig, postgres: Postgres, database: str, store: Postgres | MlflowServer
) -> None:
    """Freeze the store while the database takes the run's first metrics, which it does slowly; then kill it."""
    import psycopg

    before = files(folder)
    slow = (
        "CREATE FUNCTION slow() RETURNS trigger AS $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$"
        " LANGUAGE plpgsql; CREATE TRIGGER slow BEFORE INSERT ON metrics EXECUTE FUNCTION slow()"
    )
    with psycopg.connect(postgres.uri(database), autocommit=True) as connection:
        connection.execute(slow)
        with ThreadPoolExecutor() as pool:
            sending = pool.submit(MlflowTracker(config).send, folder)
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = %s"
            deadline = time.monotonic() + 60
            while connection.execute(waiting, [database]).fetchone() == (0,):
                assert not sending.done(), sending.result()
                assert time.monotonic() < deadline
            store.freeze()
            with pytest.raises(TimeoutError):
                sending.result(timeout=1)
            assert files(folder) == before
            store.kill()
            with pytest.raises(TrackingError):
                sending.result()
    assert files(folder) == before
    store.start()
    with psycopg.connect(postgres.uri(database), autocommit=True) as connection:
        asleep = "FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = %s"
        connection.execute(f"SELECT pg_terminate_backend(pid) {asleep}", [database])
        connection.execute("DROP TRIGGER slow ON metrics")
    assert len(the_runs_of(folder, config.uri)) <= 1, "what the sender that failed has left"
    MlflowTracker(config).send(folder)
    check_sent_once(folder, config.uri)


def test_a_run_that_a_repeated_request_made_twice_is_there_once(
    here: Path, store: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's client repeats a request whose answer does not come; the server may have answered both."""
    really = MlflowClient.create_run

    def twice(self: MlflowClient, *words: Any, **named: Any) -> Any:
        really(self, *words, **named)
        return really(self, *words, **named)

    folder = make_folder(here, sample_model("a"), sample_model("b"))
    monkeypatch.setattr(MlflowClient, "create_run", twice)
    send_folder(folder, store)
    runs = the_runs_of(folder, store.uri)
    assert sorted(run.data.tags["model"] for run in runs) == ["a", "a+b", "b"]


def test_a_session_whose_sender_died_before_it_knew_its_run_has_one(
    here: Path, store: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session("12-00-00-serve", "serve m", "lqmf serve m", 1_700_000_000_123, {"server.port": "8000"})
    (here / SESSION_NAME).write_bytes(msgspec.json.encode(session))
    really = MlflowClient.log_batch

    def dies(self: MlflowClient, *words: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MlflowClient, "log_batch", dies)
    with pytest.raises(KeyboardInterrupt):
        send_session(here, store)
    monkeypatch.setattr(MlflowClient, "log_batch", really)
    assert not (here / SENT_NAME).exists()
    run_id = send_session(here, store)
    client = MlflowClient(tracking_uri=store.uri)
    (experiment,) = [e.experiment_id for e in client.search_experiments() if e.name == store.experiment]
    (run,) = client.search_runs([experiment], f"tags.`lqmf.run_id` = '{session.id}'")
    assert (run.info.run_id, run.data.params) == (run_id, {"server.port": "8000"})
    later = Session("12-00-00-serve", "serve m", "lqmf serve m", 1_700_000_999_123, {})
    other = here / "other"
    other.mkdir()
    (other / SESSION_NAME).write_bytes(msgspec.json.encode(later))
    assert send_session(other, store) != run_id, "of another day"
