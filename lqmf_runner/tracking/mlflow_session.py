"""Sending a server's session to MLflow; runs in the sender's process, as `mlflow_store` does."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..config import TrackingConfig
from ..redaction import redact_text
from ..results.files import read_lines, write_whole
from .mlflow_connection import connected, experiment_id, locked_store
from .mlflow_traces import send_traces
from .session import SESSION_NAME, SUMMARIES_NAME, TRACES_NAME, Session, SessionSummary
from .values import TAG_LENGTH, shorten

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SENT_NAME = "mlflow.json"
_BATCH = 100


class _Sent(msgspec.Struct):
    """How far a session has been sent: summaries, and bytes of the file of traces."""

    run_id: str
    summaries: int = 0
    traces: int = 0


def is_session(folder: Path) -> bool:
    """Whether this is the folder of a server's session."""
    return (folder / SESSION_NAME).is_file()


def send_session(folder: Path, config: TrackingConfig) -> str:
    """Send what is new of a session; returns the id of its MLflow run.

    Raises:
        TrackingError: MLflow refused, or cannot be reached. What was sent is not sent again.
    """
    session = msgspec.json.decode((folder / SESSION_NAME).read_bytes(), type=Session)
    with connected(config) as client:
        with locked_store(config, folder):  # several servers may start at the same time
            experiment = experiment_id(client, config)
            sent = _read_sent(folder) or _begin_run(client, experiment, session, folder)
        _send_summaries(client, folder, sent)
        _send_traces(client, folder, sent, config, experiment)
    return sent.run_id


def _begin_run(client: MlflowClient, experiment: str, session: Session, folder: Path) -> _Sent:
    from mlflow.entities import Param

    tags = {"mode": "serve", "lqmf.run_id": session.id, "command": redact_text(session.command)}
    run = client.create_run(
        experiment,
        start_time=session.started_at,
        run_name=shorten(session.name, 200),
        tags={key: shorten(value, TAG_LENGTH) for key, value in tags.items()},
    )
    sent = _Sent(run.info.run_id)
    _write_sent(folder, sent)
    params = [Param(key, value) for key, value in session.params.items()]
    for start in range(0, len(params), _BATCH):
        client.log_batch(sent.run_id, params=params[start : start + _BATCH])
    return sent


def _send_summaries(client: MlflowClient, folder: Path, sent: _Sent) -> None:
    from mlflow.entities import Metric

    summaries = read_lines(folder / SUMMARIES_NAME, SessionSummary)
    for step, summary in enumerate(summaries[sent.summaries :], sent.summaries):
        metrics = [Metric(key, value, summary.time, step) for key, value in summary.metrics.items()]
        for start in range(0, len(metrics), _BATCH):
            client.log_batch(sent.run_id, metrics=metrics[start : start + _BATCH])
        if summary.final:
            client.log_artifact(sent.run_id, str(folder / SUMMARIES_NAME))
            client.set_terminated(sent.run_id, "FINISHED", summary.time)
        sent.summaries = step + 1
        _write_sent(folder, sent)


def _send_traces(
    client: MlflowClient, folder: Path, sent: _Sent, config: TrackingConfig, experiment: str
) -> None:
    """What does not get through in time is sent with the next summary, or by hand."""
    path = folder / TRACES_NAME
    if not path.exists() or path.stat().st_size == sent.traces:
        return
    import mlflow

    mlflow.set_tracking_uri(config.uri)
    for position in send_traces(client, path, sent.traces, experiment=experiment, run_id=sent.run_id):
        sent.traces = position
        _write_sent(folder, sent)


def _read_sent(folder: Path) -> _Sent | None:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((folder / _SENT_NAME).read_bytes(), type=_Sent)
    return None


def _write_sent(folder: Path, sent: _Sent) -> None:
    write_whole(folder / _SENT_NAME, msgspec.json.encode(sent))  # a torn one would send everything twice
