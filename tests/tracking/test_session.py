"""A server's session in MLflow, for real on SQLite; and with trackers that fail."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mlflow import MlflowClient

from lqmf_runner.config import TrackingConfig
from lqmf_runner.errors import LqmfError, TrackingError, UserInputError
from lqmf_runner.models.registered import Weights
from lqmf_runner.results.schema import RequestTrace
from lqmf_runner.tracking.mlflow_session import is_session, send_session
from lqmf_runner.tracking.model_registry import list_versions
from lqmf_runner.tracking.session import (
    SESSION_NAME,
    SUMMARIES_NAME,
    TRACES_NAME,
    WEIGHTS_NAME,
    SessionSummary,
    SessionTracker,
    session_metrics,
)


def stats(requests: int) -> dict[str, Any]:
    return {
        "version": "1",
        "requests": requests,
        "models": {
            "m": {"state": "ready", "output_tokens": requests * 3, "ttft_s": {"p50": 0.25, "p99": None}}
        },
    }


class Recorder:
    """A tracker that notes how many summaries there were each time, and fails if it is told to."""

    def __init__(self, fails: LqmfError | None = None) -> None:
        self.seen: list[int] = []
        self.fails = fails

    def send(self, folder: Path) -> None:
        self.seen.append(len((folder / SUMMARIES_NAME).read_bytes().splitlines()))
        if self.fails:
            raise self.fails


class Direct:
    """Sends from this process: the child that usually does has a test of its own."""

    def __init__(self, config: TrackingConfig) -> None:
        self.config = config

    def send(self, folder: Path) -> str:
        assert is_session(folder)
        return send_session(folder, self.config)


def make_session(
    folder: Path, tracker: Any, counts: list[int], interval_s: float = 1000, **more: Any
) -> SessionTracker:
    """`counts` are the numbers of requests at each look at the statistics; the last one stays."""
    return SessionTracker(
        tracker, folder, lambda: stats(counts.pop(0) if len(counts) > 1 else counts[0]),
        name="serve m", command="serve", config={"server": {"port": 8001}}, interval_s=interval_s,
        **more,
    )  # fmt: skip


def test_numbers_alone_become_metrics() -> None:
    assert session_metrics(stats(2)) == {"requests": 2.0, "m/output_tokens": 6.0, "m/ttft_s.p50": 0.25}


async def test_a_session_without_requests_leaves_nothing(tmp_path: Path) -> None:
    tracker = Recorder()
    async with make_session(tmp_path, tracker, [0]).running():
        pass
    assert tracker.seen == []
    assert os.listdir(tmp_path) == []


async def test_summaries_are_sent_when_there_is_news_and_at_the_end(tmp_path: Path) -> None:
    tracker = Recorder()
    async with make_session(tmp_path, tracker, [1, 1, 2], interval_s=0.001).running():
        while len(tracker.seen) < 2:  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.001)
    assert tracker.seen == [1, 2, 3]
    lines = (tmp_path / SUMMARIES_NAME).read_bytes().splitlines()
    summaries = [msgspec.json.decode(line, type=SessionSummary) for line in lines]
    assert [(s.metrics["requests"], s.final) for s in summaries] == [(1, False), (2, False), (2, True)]


@pytest.mark.parametrize("error", [TrackingError("it is down"), UserInputError("it is down")])
async def test_a_tracker_that_fails_is_told_of_once_and_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: LqmfError
) -> None:
    tracker = Recorder(error)
    async with make_session(tmp_path, tracker, [1, 2, 3], interval_s=0.001).running():
        while len(tracker.seen) < 2:  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.001)
    assert len([record for record in caplog.records if "it is down" in record.message]) == 1
    assert len((tmp_path / SUMMARIES_NAME).read_bytes().splitlines()) >= 3


async def test_a_session_is_one_run_read_back_through_mlflow(tmp_path: Path) -> None:
    config = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db", artifacts=str(tmp_path / "artifacts"))
    folder = tmp_path / "12-00-00-serve"
    folder.mkdir()
    answered = Weights(name="m", digest="d1", format="gguf", path="/models/m.gguf")
    for counts in ([5], [7]):  # what was sent before is not sent again
        async with make_session(folder, Direct(config), counts, weights=lambda: [answered]).running():
            pass
    client = MlflowClient(tracking_uri=config.uri)
    experiment = client.get_experiment_by_name("lqmf")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["mode"] == "serve"
    assert run.data.params["server.port"] == "8001"
    history = client.get_metric_history(run.info.run_id, "m/output_tokens")
    assert [(point.step, point.value) for point in history] == [(0, 15), (1, 21)]
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {SUMMARIES_NAME, WEIGHTS_NAME}
    (version,) = list_versions(config)
    assert (version.label, version.weights.digest, version.weights.path) == ("m@1", "d1", "/models/m.gguf")


async def test_a_summary_that_does_not_fit_on_the_disk_leaves_no_torn_line(tmp_path: Path) -> None:
    async def serve(requests: int) -> None:
        async with make_session(tmp_path, Recorder(), [requests]).running():
            pass

    for requests in (1, 2, 3):
        await serve(requests)
    assert (tmp_path / SUMMARIES_NAME).stat().st_size > (tmp_path / SESSION_NAME).stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / SUMMARIES_NAME).stat().st_size + 10, hard))
    try:
        await serve(4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await serve(5)
    lines = (tmp_path / SUMMARIES_NAME).read_bytes().splitlines()
    assert [msgspec.json.decode(line)["metrics"]["requests"] for line in lines] == [1, 2, 3, 5]


async def test_a_torn_line_costs_itself_alone(tmp_path: Path, store: TrackingConfig) -> None:
    trace = RequestTrace(
        id="whole", key=None, route="/v1/completions", model="m", streaming=False, n=1, status=200, error="",
        cancelled=False, began=1_790_000_000.5, duration_s=2.0, first_token_s=0.5, queue_s=0.1, prefill_s=0.3,
        decode_s=1.25, prompt_tokens=7, output_tokens=3,
    )  # fmt: skip
    async with make_session(tmp_path, Recorder(), [5], take_traces=lambda: [trace]).running():
        pass
    for name in (SUMMARIES_NAME, TRACES_NAME):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:20] + whole + whole)
    run_id = send_session(tmp_path, store)
    client = MlflowClient(tracking_uri=store.uri)
    run = client.get_run(run_id)
    assert run.data.metrics["requests"] == 5
    found = client.search_traces(
        locations=[run.info.experiment_id], filter_string=f"metadata.`mlflow.sourceRun` = '{run_id}'"
    )
    assert [trace.info.tags["lqmf.request_id"] for trace in found] == ["whole"]


async def test_requests_are_traces_of_the_session_s_run_sent_once(
    tmp_path: Path, store: TrackingConfig
) -> None:
    traces = [
        RequestTrace(
            id=f"id-{n}", key=None, route="/v1/chat/completions", model="m", streaming=False, n=1, status=200,
            error="" if n else "EngineLostError", cancelled=False, began=1_790_000_000.5 + n, duration_s=2.0,
            first_token_s=0.5, queue_s=0.1, prefill_s=0.3, decode_s=1.25, prompt_tokens=7, output_tokens=3,
            outputs={"choices": []} if n else None,
        )
        for n in range(3)
    ]  # fmt: skip
    waiting = list(traces[:2])

    def take() -> list[RequestTrace]:
        taken = waiting[:]
        waiting[:] = traces[2:] if taken else []
        return taken

    for counts in ([2], [3]):
        session = make_session(tmp_path, Direct(store), counts, take_traces=take)
        async with session.running():
            pass
    client = MlflowClient(tracking_uri=store.uri)
    experiment = client.get_experiment_by_name("lqmf").experiment_id
    run_id = msgspec.json.decode((tmp_path / "mlflow.json").read_bytes())["run_id"]
    found = client.search_traces(
        locations=[experiment],
        filter_string=f"metadata.`mlflow.sourceRun` = '{run_id}'",
        order_by=["timestamp_ms"],
    )
    assert [trace.info.tags["lqmf.request_id"] for trace in found] == ["id-0", "id-1", "id-2"]
    assert [str(trace.info.state.value) for trace in found] == ["ERROR", "OK", "OK"]
    assert [trace.info.request_time for trace in found] == [1_790_000_000_500 + 1000 * n for n in range(3)]
    assert found[0].info.execution_duration == 2000
    assert found[0].info.token_usage["total_tokens"] == 10
    lengths = {span.name: span.end_time_ns - span.start_time_ns for span in found[1].data.spans}
    assert lengths == pytest.approx(
        {"/v1/chat/completions": 2e9, "queue": 0.1e9, "prefill": 0.3e9, "decode": 1.25e9}, abs=1e3
    )
