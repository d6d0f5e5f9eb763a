"""Sending a server's session to MLflow; runs in the sender's process, as `mlflow_store` does."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from ..config import TrackingConfig
from ..errors import TrackingError
from .mlflow_store import _experiment, _why
from .session import SESSION_NAME, SUMMARIES_NAME, Session, SessionSummary
from .values import TAG_LENGTH, redact_text, shorten

_SENT_NAME = "mlflow.json"
_BATCH = 100


class _Sent(msgspec.Struct):
    """How far a session has been sent."""

    run_id: str
    summaries: int = 0


def is_session(folder: Path) -> bool:
    """Whether this is the folder of a server's session."""
    return (folder / SESSION_NAME).is_file()


def send_session(folder: Path, config: TrackingConfig) -> str:
    """Send what is new of a session; returns the id of its MLflow run.

    Raises:
        TrackingError: MLflow refused, or cannot be reached. What was sent is not sent again.
    """
    session = msgspec.json.decode((folder / SESSION_NAME).read_bytes(), type=Session)
    lines = (folder / SUMMARIES_NAME).read_bytes().splitlines()
    summaries = [msgspec.json.decode(line, type=SessionSummary) for line in lines]
    if config.uri.startswith("sqlite:///") and not config.uri.endswith(":memory:"):
        Path(config.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    try:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise TrackingError(f"MLflow cannot be imported: {error}", hint="pip install mlflow") from None
    sent = _read_sent(folder)
    try:
        client = MlflowClient(tracking_uri=config.uri)
        if sent is None:
            tags = {"mode": "serve", "lqmf.run_id": session.id, "command": redact_text(session.command)}
            run = client.create_run(
                _experiment(client, config),
                start_time=session.started_at,
                run_name=shorten(session.name, 200),
                tags={key: shorten(value, TAG_LENGTH) for key, value in tags.items()},
            )
            sent = _Sent(run.info.run_id)
            _write_sent(folder, sent)
            params = [Param(key, value) for key, value in session.params.items()]
            for start in range(0, len(params), _BATCH):
                client.log_batch(sent.run_id, params=params[start : start + _BATCH])
        for step, summary in enumerate(summaries[sent.summaries :], sent.summaries):
            metrics = [Metric(key, value, summary.time, step) for key, value in summary.metrics.items()]
            for start in range(0, len(metrics), _BATCH):
                client.log_batch(sent.run_id, metrics=metrics[start : start + _BATCH])
            if summary.final:
                client.log_artifact(sent.run_id, str(folder / SUMMARIES_NAME))
                client.set_terminated(sent.run_id, "FINISHED", summary.time)
            sent.summaries = step + 1
            _write_sent(folder, sent)
    except MlflowException as error:
        raise TrackingError(f"MLflow at {redact_text(config.uri)}: {_why(error)}") from error
    return sent.run_id


def _read_sent(folder: Path) -> _Sent | None:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((folder / _SENT_NAME).read_bytes(), type=_Sent)
    return None


def _write_sent(folder: Path, sent: _Sent) -> None:
    (folder / _SENT_NAME).write_bytes(msgspec.json.encode(sent))
