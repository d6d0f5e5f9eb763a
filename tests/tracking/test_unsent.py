"""Which runs are still to be sent, and sending them: by hand, and with mode=history."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from lqmf_runner.config import HistoryMode, RunConfig, TrackingConfig
from lqmf_runner.modes.runs.history import run
from lqmf_runner.results.files import read_results, write_results
from lqmf_runner.results.schema import ModelResult
from lqmf_runner.runs.context import RunContext
from lqmf_runner.tracking.mlflow_store import send_folder
from lqmf_runner.tracking.session import SESSION_NAME, SUMMARIES_NAME, Session, SessionSummary
from lqmf_runner.tracking.unsent import find_unsent
from tests.support.runs.sample import sample_model
from tests.tracking.conftest import make_folder


def meant_for(folder: Path, config: TrackingConfig, **other: object) -> Path:
    """The folder of a run that was made with this store in its settings."""
    path = folder / ".hydra" / "resolved.json"
    tracking = {"enabled": True, "uri": config.uri, "experiment": config.experiment} | other
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tracking": tracking}))
    return folder


def make_session(folder: Path, config: TrackingConfig, *, final: bool) -> Path:
    folder.mkdir(parents=True)
    params = {
        "tracking.enabled": "true",
        "tracking.uri": config.uri,
        "tracking.experiment": config.experiment,
    }
    (folder / SESSION_NAME).write_bytes(
        msgspec.json.encode(Session(folder.name, "serve a", "lqmf serve", 1000, params))
    )
    (folder / SUMMARIES_NAME).write_bytes(
        msgspec.json.encode(SessionSummary(2000, {"requests": 3.0}, final)) + b"\n"
    )
    return folder


@pytest.fixture
def config(store: TrackingConfig) -> TrackingConfig:
    return dataclasses.replace(store, experiment="unsent")


def test_what_ended_and_was_meant_for_this_store_is_unsent(here: Path, config: TrackingConfig) -> None:
    wanted = [meant_for(make_folder(here, sample_model("a")), config)]
    sent = meant_for(make_folder(here, sample_model("b")), config)
    results = read_results(sent)
    results.run.mlflow_run_id = "known"
    write_results(results, sent)
    meant_for(make_folder(here, sample_model("c")), config, enabled=False)
    meant_for(make_folder(here, sample_model("d")), config, experiment="another")
    meant_for(make_folder(here, ModelResult(name="e", error="no such weights")), config)
    running = meant_for(make_folder(here, sample_model("f")), config)
    results = read_results(running)
    results.run.finished_at = None
    write_results(results, running)
    wanted.append(make_session(here / "outputs" / "session", config, final=True))
    make_session(here / "outputs" / "serving", config, final=False)
    assert find_unsent(here, config) == wanted
    assert find_unsent(here / "outputs", dataclasses.replace(config, enabled=False)) == []


def test_a_login_in_the_address_is_no_difference(here: Path) -> None:
    config = TrackingConfig(uri="http://joe:pw@host:5000")
    folder = meant_for(make_folder(here, sample_model("a")), config, uri="http://***@host:5000")
    assert find_unsent(here, config) == [folder]


def test_a_sweep_is_sent_after_its_jobs(here: Path, config: TrackingConfig) -> None:
    sweep = meant_for(make_folder(here, sample_model("a"), sweep="s"), config)
    job = meant_for(make_folder(here, sample_model("a"), sweep="s"), config).rename(sweep / "0")
    assert find_unsent(here, config) == [job, sweep]


def test_a_folder_of_runs_is_sent_at_once(here: Path, config: TrackingConfig) -> None:
    folders = [meant_for(make_folder(here, sample_model(name)), config) for name in "ab"]
    (here / "outputs" / "day").mkdir()
    day = [folder.rename(here / "outputs" / "day" / folder.name) for folder in folders]
    session = make_session(here / "outputs" / "day" / "serve", config, final=True)
    words = [
        "outputs",
        "--uri",
        config.uri,
        "--artifacts",
        config.artifacts,
        "--experiment",
        config.experiment,
    ]
    done = subprocess.run(
        [sys.executable, "-m", "lqmf_runner.tracking", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ids = [line.removeprefix("MLflow run ") for line in done.stdout.splitlines()]
    assert ids[:2] == [read_results(folder).run.mlflow_run_id for folder in day]
    assert json.loads((session / "mlflow.json").read_text())["run_id"] == ids[2]
    assert find_unsent(here, config) == []


def test_history_says_what_is_unsent_and_sends_it(
    here: Path, config: TrackingConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    send_folder(make_folder(here, sample_model("before")), config)
    folder = meant_for(make_folder(here, sample_model("after")), config)

    def history(mode: HistoryMode) -> tuple[str, str]:
        everything = RunConfig(mode=mode, tracking=config)
        assert run(RunContext(everything, (everything,), {}, here, "lqmf history")) == 0
        said = capsys.readouterr()
        return said.out, said.err

    out, err = history(HistoryMode())
    assert "after" not in out
    assert "1 run is not in MLflow; to send it: mode.send=true" in err
    out, err = history(HistoryMode(send=True))
    assert "after" in out
    assert "1 run was sent to MLflow" in err
    assert read_results(folder).run.mlflow_run_id
    assert history(HistoryMode())[1] == ""
