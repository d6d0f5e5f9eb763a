"""MLflow for real, on SQLite; and servers that refuse or hang."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from lqmf_runner.config import TrackingConfig
from lqmf_runner.errors import TrackingError, UserInputError
from lqmf_runner.results.files import SYSTEM, read_results, write_results
from lqmf_runner.results.logs.system_log import SystemSample
from lqmf_runner.results.quality import KldSummary, Quality
from lqmf_runner.results.schema import ModelResult
from lqmf_runner.results.verdict import Verdict
from lqmf_runner.tracking import MlflowTracker, NullTracker, create_tracker, send_later_command
from lqmf_runner.tracking.mlflow_store import send_folder
from lqmf_runner.tracking.reader import save_view
from tests.support.runs.sample import sample_model, sample_results
from tests.tracking.conftest import make_folder


def test_one_model_is_one_run_read_back_through_mlflow(here: Path, store: TrackingConfig) -> None:
    folder = make_folder(here, sample_model("a"))
    run_id = MlflowTracker(store).send(folder)
    assert read_results(folder).run.mlflow_run_id == run_id

    client = MlflowClient(tracking_uri=store.uri)
    run = client.get_run(run_id)
    assert client.get_experiment(run.info.experiment_id).name == "lqmf"
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 60_000
    assert run.data.params["mode.name"] == "benchmark"
    assert run.data.params["backend.api_key"] == "***"
    assert run.data.metrics["c8/ttft_s.p50"] == read_results(folder).models[0].loads[2].ttft_s.p50
    tags = {key: run.data.tags[key] for key in ("model", "format", "bits", "mode", "version")}
    assert tags == {"model": "a", "format": "gguf", "bits": "4.0", "mode": "benchmark", "version": "abc"}
    assert run.data.tags["prompts"] == "tiny"
    assert run.data.params["system.cpu"] == "A Processor"
    assert "mode.warmup" not in run.data.params  # as usual
    assert run.info.run_name == "benchmark a GGUF Q4_1"
    first, _, rest = run.data.tags["mlflow.note.content"].partition("\n")
    assert first == "a: 100.0 tok/s (1 user) · TTFT p50 0.052 s (1 user) · memory 270 MB"
    assert "| GGUF Q4_1 |" in rest
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.tags[0].value) == ("tiny", "benchmark")
    assert json.loads(dataset.dataset.profile) == {"num_prompts": 2, "num_turns": 4}
    assert {f.path for f in client.list_artifacts(run_id)} == {".hydra", "report.md", "results.json"}
    assert run.info.artifact_uri.startswith(Path(store.artifacts).as_uri())
    sent = read_results(Path(run.info.artifact_uri.removeprefix("file://")))
    assert sent.run.mlflow_run_id == run_id
    assert {p.name for p in here.iterdir()} == {"outputs"}  # no stray mlruns or mlartifacts
    assert MlflowTracker(store).send(folder) == run_id  # a second time changes nothing

    link = save_view(store)
    assert f"/experiments/{run.info.experiment_id}/runs?viewStateShareKey=" in link
    key = "mlflow.sharedViewState." + link.rpartition("=")[2]
    view = json.loads(client.get_experiment(run.info.experiment_id).tags[key])
    assert (
        view["orderByKey"] != "attributes.start_time"
    )  # would fold the runs of models below those that group them
    shown = {name.split("`")[1] for name in view["selectedColumns"] if name.startswith("metrics.")}
    assert {"c1/output_tokens_per_s", "memory/rss_mb"} == shown & set(run.data.metrics) - {"c1/ttft_s.p50"}


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
    note = parent.data.tags["mlflow.note.content"]
    assert all(f"| {name} |" in note for name in "abc")
    assert "| b |" not in by_name["a"].data.tags["mlflow.note.content"]


def test_system_metrics_are_series_and_a_model_has_those_of_its_turn(
    here: Path, store: TrackingConfig
) -> None:
    folder = make_folder(here, sample_model("a"), sample_model("b"))
    samples = [
        SystemSample(1_000_000 + at, model, {"cpu_utilization_percentage": float(at)})
        for at, model in enumerate("aab")
    ]
    (folder / SYSTEM).write_bytes(b"".join(msgspec.json.encode(sample) + b"\n" for sample in samples))
    top = send_folder(folder, store)
    client = MlflowClient(tracking_uri=store.uri)
    experiment = client.get_run(top).info.experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{top}'")
    found = {
        run.info.run_name: [
            (point.timestamp, point.value)
            for point in client.get_metric_history(run.info.run_id, "system/cpu_utilization_percentage")
        ]
        for run in (client.get_run(top), *children)
    }
    points = [(1_000_000, 0.0), (1_000_001, 1.0), (1_000_002, 2.0)]
    named = {name.split()[1]: series for name, series in found.items()}
    assert named == {"a+b": points, "a": points[:2], "b": points[2:]}


def test_the_registry_has_a_version_for_each_content_of_a_model(here: Path, store: TrackingConfig) -> None:
    client = MlflowClient(tracking_uri=store.uri)

    def measure(version: str, speed: float, kld: float | None = None, **settings: object) -> None:
        model = sample_model("regis/tered", speed=speed)
        model.version = version
        if kld is not None:
            model.quality = Quality(kld=KldSummary(kld))
        send_folder(make_folder(here, model, **settings), store)  # type: ignore[arg-type]

    def aliases() -> dict[str, str]:
        found = client.get_registered_model("regis_tered").aliases
        return {
            alias: client.get_model_version("regis_tered", v).tags["version"] for alias, v in found.items()
        }

    measure("one", 100.0)
    measure("two", 120.0)
    measure("one", 90.0)
    assert aliases() == {"current": "one", "best": "two"}
    assert len(client.search_model_versions("name='regis_tered'")) == 2
    measure("three", 500.0, max_tokens=8)  # other conditions: current, and the best of its own
    measure("two", 80.0)
    assert aliases() == {"current": "two", "best": "one"}
    measure("one", 90.0, kld=0.1)
    measure("two", 80.0, kld=0.02)
    measure("one", 90.0, kld=0.1)
    assert aliases() == {"current": "one", "best": "two"}  # closer to the reference counts before speed
    files = [p for p in (Path(store.artifacts)).rglob("*") if p.suffix in (".gguf", ".safetensors")]
    assert files == []


def test_a_server_without_a_registry_still_gets_the_run(
    here: Path, store: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MlflowException("no registry here")

    monkeypatch.setattr(MlflowClient, "get_registered_model", refuse)
    monkeypatch.setattr(MlflowClient, "create_registered_model", refuse)
    run_id = send_folder(make_folder(here, sample_model("unregistered")), store)
    assert MlflowClient(tracking_uri=store.uri).get_run(run_id).info.status == "FINISHED"


def test_jobs_of_a_sweep_share_a_parent(here: Path, store: TrackingConfig) -> None:
    client = MlflowClient(tracking_uri=store.uri)
    sweep = "2026-01-01/01-02-03-benchmark"
    runs = [client.get_run(send_folder(make_folder(here, sample_model(n), sweep=sweep), store)) for n in "ab"]
    parents = {run.data.tags["mlflow.parentRunId"] for run in runs}
    assert len(parents) == 1


def test_a_job_that_is_run_again_takes_the_place_of_what_it_left(here: Path, store: TrackingConfig) -> None:
    """It had failed before anything was measured; the other job of the sweep stays."""
    client = MlflowClient(tracking_uri=store.uri)
    failed, other = ModelResult(name="a", error="no such weights"), sample_model("b")
    folders = [make_folder(here, model, sweep="day/again", status="partial") for model in (failed, other)]
    first, kept = (client.get_run(send_folder(folder, store)) for folder in folders)
    assert (first.info.status, first.data.tags["model"]) == ("FAILED", "a")
    results = sample_results(sample_model("a"))
    results.run.sweep, results.run.id, results.run.mlflow_run_id = "day/again", "again", None
    write_results(results, folders[0])
    again = send_folder(folders[0], store)
    parent = first.data.tags["mlflow.parentRunId"]
    children = client.search_runs([first.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert {run.info.run_id for run in children} == {again, kept.info.run_id}


def test_jobs_that_end_together_share_a_parent_which_gets_the_table_of_the_sweep(here: Path) -> None:
    """In a store that is not there yet: one of them makes it, the other waits."""
    store = TrackingConfig(uri=f"sqlite:///{here}/new/mlflow.db", artifacts=str(here / "new/artifacts"))
    folders = [make_folder(here, sample_model(name), sweep="day/time") for name in "ab"]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda folder: send_folder(folder, store), folders))
    whole = here / "outputs"
    results = sample_results(sample_model("a"), sample_model("b"))
    results.run.sweep, results.run.compares = "day/time", ["0", "1"]
    results.verdict = Verdict(winner="a", headline="a wins", sentences=[])
    write_results(results, whole)
    top = send_folder(whole, store)
    client = MlflowClient(tracking_uri=store.uri)
    runs = client.search_runs([client.get_run(top).info.experiment_id])
    assert sorted(run.data.tags.get("mlflow.parentRunId", "") for run in runs) == ["", top, top]
    assert [file.path for file in client.list_artifacts(top)] == ["results.json"]
    tags = client.get_run(top).data.tags
    assert tags["verdict"] == "a wins"
    assert "| b |" in tags["mlflow.note.content"]


def test_a_job_goes_on_when_another_one_has_deleted_the_parent_that_it_made(
    here: Path, store: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that make a parent at the same moment keep the first; each deletes the others as soon as it sees them."""
    delete, end = MlflowClient.delete_run, MlflowClient.set_terminated

    def other_is_faster(client: MlflowClient, run_id: str) -> None:
        delete(client, run_id)
        delete(client, run_id)

    def other_comes_between(client: MlflowClient, run_id: str, *args: object) -> None:
        made = client.get_run(run_id)
        if made.data.tags.get("lqmf.sweep"):
            other = client.create_run(made.info.experiment_id, tags={"lqmf.sweep": "one/sweep"})
            delete(client, run_id)
            others.append(other.info.run_id)
        end(client, run_id, *args)

    others: list[str] = []
    monkeypatch.setattr(MlflowClient, "delete_run", other_is_faster)
    monkeypatch.setattr(MlflowClient, "set_terminated", other_comes_between)
    run_id = send_folder(make_folder(here, sample_model("a"), sweep="one/sweep"), store)
    client = MlflowClient(tracking_uri=store.uri)
    assert client.get_run(run_id).data.tags["mlflow.parentRunId"] == others[0]
    for _ in range(8):  # of which some come before the one that is kept
        client.create_run(client.get_run(run_id).info.experiment_id, tags={"lqmf.sweep": "one/sweep"})
    monkeypatch.setattr(MlflowClient, "set_terminated", end)
    second = send_folder(make_folder(here, sample_model("b"), sweep="one/sweep"), store)
    parents = {client.get_run(run).data.tags["mlflow.parentRunId"] for run in (run_id, second)}
    assert len(parents) == 1
    assert client.get_run(parents.pop()).info.lifecycle_stage == "active"


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


def test_what_a_sender_that_was_killed_has_left_is_sent_again(here: Path, store: TrackingConfig) -> None:
    folder = make_folder(here, sample_model("killed"), sample_model("beside"))
    killed = (
        "import os, signal, sys; from mlflow import MlflowClient; from lqmf_runner.tracking.__main__ import main\n"
        "MlflowClient.log_artifact = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.exit(main())"
    )
    words = shlex.split(send_later_command(folder, store))[3:]
    done = subprocess.run([sys.executable, "-c", killed, *words], check=False)
    assert done.returncode == -signal.SIGKILL
    client = MlflowClient(tracking_uri=store.uri)
    experiment = client.get_experiment_by_name("lqmf").experiment_id
    of_folder = f"tags.`lqmf.run_id` = '{read_results(folder).run.id}'"
    assert "RUNNING" in {run.info.status for run in client.search_runs([experiment], of_folder)}
    run_id = send_folder(folder, store)
    runs = client.search_runs([experiment], of_folder)
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    assert run_id in {run.info.run_id for run in runs}
    assert "report.md" in {file.path for file in client.list_artifacts(run_id)}


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


def test_a_store_is_not_held_while_mlflow_is_imported(here: Path) -> None:
    """That takes seconds, in which others could write to it."""
    program = f"""
import sys
from pathlib import Path
from lqmf_runner.config import TrackingConfig
from lqmf_runner.tracking import mlflow_store
def lock(*_):
    sys.exit("imported" if "mlflow.tracking.client" in sys.modules else "not yet")
mlflow_store.locked_store = lock
mlflow_store.send_folder(Path({str(make_folder(here, sample_model("a")))!r}), TrackingConfig())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == "imported\n"
