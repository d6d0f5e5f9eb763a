"""Sending a server's session to MLflow; runs in the sender's process, as `mlflow_store` does."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..config import TrackingConfig
from ..models.registered import Weights
from ..redaction import redact_text
from ..results.files import read_lines, write_whole
from ..results.served import SERVED
from . import Say, say_nothing
from .artifacts import artifact_note
from .mlflow_connection import connected, experiment_id
from .mlflow_traces import send_traces
from .model_registry import register_served
from .session import (
    SENT_NAME,
    SESSION_NAME,
    SUMMARIES_NAME,
    TRACES_NAME,
    WEIGHTS_NAME,
    SentSession,
    Session,
    SessionSummary,
    read_sent,
)
from .store_lock import locked_store
from .values import TAG_LENGTH, shorten

if TYPE_CHECKING:
    from mlflow import MlflowClient

_BATCH = 100


def is_session(folder: Path) -> bool:
    """Whether this is the folder of a server's session."""
    return (folder / SESSION_NAME).is_file()


def send_session(folder: Path, config: TrackingConfig, say: Say = say_nothing) -> str:
    """Send the new part of a session; returns the id of its MLflow run.

    Raises:
        TrackingError: MLflow refused, or cannot be reached. What was sent is not sent again.
    """
    session = msgspec.json.decode((folder / SESSION_NAME).read_bytes(), type=Session)
    with connected(config) as client:
        with locked_store(config, folder):  # several servers may start at the same time
            experiment = experiment_id(client, config)
            sent = read_sent(folder) or _begin_run(client, experiment, session, folder)
            if note := artifact_note(client, config, experiment):
                say(note)
        _send_summaries(client, folder, sent)
        _register(client, folder, sent)
        _send_traces(client, folder, sent, config, experiment)
    return sent.run_id


def _begin_run(client: MlflowClient, experiment: str, session: Session, folder: Path) -> SentSession:
    """The session's run. A run that an earlier sender made and did not record is reused."""
    from mlflow.entities import Param

    tags = {"mode": "serve", "lqmf.run_id": session.id, "command": redact_text(session.command)}
    which = f"tags.`lqmf.run_id` = '{session.id}' and attributes.start_time = {session.started_at}"
    found = client.search_runs([experiment], which)
    run = (
        found[0]
        if found
        else client.create_run(
            experiment,
            start_time=session.started_at,
            run_name=shorten(session.name, 200),
            tags={key: shorten(value, TAG_LENGTH) for key, value in tags.items()},
        )
    )
    params = [Param(key, value) for key, value in session.params.items()]
    for start in range(0, len(params), _BATCH):
        client.log_batch(run.info.run_id, params=params[start : start + _BATCH])
    sent = SentSession(run.info.run_id)
    _write_sent(folder, sent)
    return sent


def _send_summaries(client: MlflowClient, folder: Path, sent: SentSession) -> None:
    from mlflow.entities import Metric

    summaries = read_lines(folder / SUMMARIES_NAME, SessionSummary)
    for step, summary in enumerate(summaries[sent.summaries :], sent.summaries):
        metrics = [Metric(key, value, summary.time, step) for key, value in summary.metrics.items()]
        for start in range(0, len(metrics), _BATCH):
            client.log_batch(sent.run_id, metrics=metrics[start : start + _BATCH])
        if summary.final:
            for path in (
                folder / SUMMARIES_NAME,
                *folder.glob(WEIGHTS_NAME),
                *sorted(folder.glob(f"{SERVED}*")),
            ):
                client.log_artifact(sent.run_id, str(path))
            client.set_terminated(sent.run_id, "FINISHED", summary.time)
        sent.summaries = step + 1
        _write_sent(folder, sent)


def _register(client: MlflowClient, folder: Path, sent: SentSession) -> None:
    """Register the weights that have answered. A server without a registry is not an error."""
    from mlflow.exceptions import MlflowException

    path = folder / WEIGHTS_NAME
    weights = msgspec.json.decode(path.read_bytes(), type=list[Weights]) if path.exists() else []
    with contextlib.suppress(MlflowException):
        for each in weights:
            register_served(client, sent.run_id, each)


def _send_traces(
    client: MlflowClient, folder: Path, sent: SentSession, config: TrackingConfig, experiment: str
) -> None:
    """Send traces. Those that are not sent in time go with the next summary, or by hand."""
    path = folder / TRACES_NAME
    if not path.exists() or path.stat().st_size == sent.traces:
        return
    import mlflow

    mlflow.set_tracking_uri(config.uri)
    for position in send_traces(client, path, sent.traces, experiment=experiment, run_id=sent.run_id):
        sent.traces = position
        _write_sent(folder, sent)


def _write_sent(folder: Path, sent: SentSession) -> None:
    write_whole(folder / SENT_NAME, msgspec.json.encode(sent))  # if incomplete, all would be sent twice
