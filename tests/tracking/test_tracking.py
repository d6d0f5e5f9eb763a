"""MLflow for real, on SQLite; and servers that refuse or hang."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lqmf_runner.config import TrackingConfig
from lqmf_runner.errors import TrackingError, UserInputError
from lqmf_runner.experiments.results import ModelResult, read_results, write_results
from lqmf_runner.tracking import MlflowTracker, NullTracker, create_tracker, send_later_command
from lqmf_runner.tracking.mlflow_store import send_folder
from tests.experiments.sample import sample_model, sample_results


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    root = tmp_path_factory.mktemp("store")
    return TrackingConfig(uri=f"sqlite:///{root}/mlruns/mlflow.db", artifacts=str(root / "mlruns/artifacts"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_folder(root: Path, *models: ModelResult, sweep: str | None = None) -> Path:
    folder = root / "outputs" / f"run-{len(list(root.glob('outputs/*')))}"
    (folder / ".hydra").mkdir(parents=True)
    results = sample_results(*models)
    results.run.sweep = sweep
    results.run.id = f"{root.name}-{folder.name}"
    write_results(results, folder)
    (folder / "report.md").write_text("# report")
    config = {
        "model": {"name": "a"},
        "backend": {"api_key": "sk-secret"},
        "mode": {"name": "benchmark", "warmup": 2},
    }
    (folder / ".hydra" / "resolved.json").write_text(json.dumps(config))
    return folder


def test_one_model_is_one_run_read_back_through_mlflow(here: Path, store: TrackingConfig) -> None:
    folder = make_folder(here, sample_model("a"))
    run_id = MlflowTracker(store).send(folder)
    assert read_results(folder).run.mlflow_run_id == run_id

    client = MlflowClient(tracking_uri=store.uri)
    run = client.get_run(run_id)
    assert client.get_experiment(run.info.experiment_id).name == "lqmf"
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 60_000
    assert run.data.params["mode.warmup"] == "2"
    assert run.data.params["backend.api_key"] == "***"
    assert run.data.metrics["c8/ttft_s.p50"] == read_results(folder).models[0].loads[2].ttft_s.p50
    tags = {key: run.data.tags[key] for key in ("model", "format", "bits", "mode", "version")}
    assert tags == {"model": "a", "format": "gguf", "bits": "4.0", "mode": "benchmark", "version": "abc"}
    assert {f.path for f in client.list_artifacts(run_id)} == {".hydra", "report.md", "results.json"}
    assert run.info.artifact_uri.startswith(Path(store.artifacts).as_uri())
    sent = read_results(Path(run.info.artifact_uri.removeprefix("file://")))
    assert sent.run.mlflow_run_id == run_id
    assert {p.name for p in here.iterdir()} == {"outputs"}  # no stray mlruns or mlartifacts
    assert MlflowTracker(store).send(folder) == run_id  # a second time changes nothing


def test_several_models_are_children_of_one_run(here: Path, store: TrackingConfig) -> None:
    failed = ModelResult(name="c", error="DoesNotFitError: too big")
    top = send_folder(make_folder(here, sample_model("a"), sample_model("b"), failed), store)
    client = MlflowClient(tracking_uri=store.uri)
    parent = client.get_run(top)
    children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{top}'")
    assert sorted(run.data.tags["model"] for run in children) == ["a", "b", "c"]
    by_name = {run.data.tags["model"]: run for run in children}
    assert "c1/ttft_s.p50" in by_name["b"].data.metrics
    assert by_name["b"].data.params["model.name"] == "b"
    assert "c1/ttft_s.p50" not in parent.data.metrics


def test_jobs_of_a_sweep_share_a_parent(here: Path, store: TrackingConfig) -> None:
    client = MlflowClient(tracking_uri=store.uri)
    sweep = "2026-01-01/01-02-03-benchmark"
    runs = [client.get_run(send_folder(make_folder(here, sample_model(n), sweep=sweep), store)) for n in "ab"]
    parents = {run.data.tags["mlflow.parentRunId"] for run in runs}
    assert len(parents) == 1


def test_jobs_that_end_together_share_a_parent_which_gets_the_table_of_the_sweep(here: Path) -> None:
    """In a store that is not there yet: one of them makes it, the other waits."""
    store = TrackingConfig(uri=f"sqlite:///{here}/new/mlflow.db", artifacts=str(here / "new/artifacts"))
    folders = [make_folder(here, sample_model(name), sweep="day/time") for name in "ab"]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda folder: send_folder(folder, store), folders))
    whole = here / "outputs"
    results = sample_results(sample_model("a"), sample_model("b"))
    results.run.sweep, results.run.compares = "day/time", ["0", "1"]
    write_results(results, whole)
    top = send_folder(whole, store)
    client = MlflowClient(tracking_uri=store.uri)
    runs = client.search_runs([client.get_run(top).info.experiment_id])
    assert sorted(run.data.tags.get("mlflow.parentRunId", "") for run in runs) == ["", top, top]
    assert [file.path for file in client.list_artifacts(top)] == ["results.json"]


def test_a_server_that_refuses_loses_nothing(here: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        config = TrackingConfig(uri=f"http://joe:pw@127.0.0.1:{taken.getsockname()[1]}")
        folder = make_folder(here, sample_model("a"))
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        started = time.monotonic()
        with pytest.raises(TrackingError, match="cannot be reached") as caught:
            MlflowTracker(config).send(folder)
    assert time.monotonic() - started < 30
    assert "pw" not in str(caught.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_hangs_is_given_up(here: Path, silent_server: str) -> None:
    folder = make_folder(here, sample_model("a"))
    started = time.monotonic()
    with pytest.raises(TrackingError, match="answer"):
        MlflowTracker(TrackingConfig(uri=silent_server), timeout_s=4).send(folder)
    assert time.monotonic() - started < 15
    assert read_results(folder).run.mlflow_run_id is None


def test_a_failure_half_way_leaves_no_half_run(here: Path, store: TrackingConfig) -> None:
    folder = make_folder(here, sample_model("unlucky"))
    location = Path(store.artifacts)
    send_folder(folder_ok := make_folder(here, sample_model("fine")), store)  # the experiment is there
    assert folder_ok.exists()
    location.rename(location.with_name("away"))
    location.write_text("a file where the folder should be")
    try:
        with pytest.raises(OSError):
            send_folder(folder, store)
    finally:
        location.unlink()
        location.with_name("away").rename(location)
    assert read_results(folder).run.mlflow_run_id is None
    client = MlflowClient(tracking_uri=store.uri)
    experiment = client.get_experiment_by_name("lqmf")
    assert client.search_runs([experiment.experiment_id], "tags.model = 'unlucky'") == []
    run_id = send_folder(folder, store)  # and later it goes through
    assert client.get_run(run_id).info.status == "FINISHED"


def test_the_command_for_later_works_as_printed(here: Path, store: TrackingConfig) -> None:
    folder = make_folder(here, sample_model("a"))
    printed = shlex.split(send_later_command(folder, store))
    assert printed[:4] == ["python", "-m", "lqmf_runner.tracking", str(folder.relative_to(here))]
    done = subprocess.run([sys.executable, *printed[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"MLflow run {read_results(folder).run.mlflow_run_id}\n"
    assert done.stderr == ""


def test_a_password_is_not_printed() -> None:
    assert "pw" not in send_later_command(Path("x"), TrackingConfig(uri="http://joe:pw@host"))


def test_a_folder_without_results_is_the_users_mistake(here: Path, store: TrackingConfig) -> None:
    with pytest.raises(UserInputError, match="no results"):
        send_folder(here, store)


def test_tracking_can_be_off(here: Path) -> None:
    tracker = create_tracker(TrackingConfig(enabled=False))
    assert tracker.send(here) is None
    assert isinstance(tracker, NullTracker)


def test_importing_the_seam_does_not_import_mlflow() -> None:
    code = "import sys, lqmf_runner.tracking; print([m for m in ('mlflow', 'numpy', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
