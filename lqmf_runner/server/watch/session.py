"""The server's session as a run in MLflow: its statistics from time to time, and traces of single requests."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...config import ServerConfig, TrackingConfig
from ...models.lineage import read_origins
from ...models.registered import Weights
from ...tracking import MlflowTracker, NullTracker, send_later_command
from ...tracking.session import TIMEOUT_S, SessionTracker
from ...types import ModelInfo, ModelSpec
from .metrics import Metrics
from .traces import TraceRecorder


def _weights(name: str, spec: ModelSpec, info: ModelInfo) -> Weights:
    return Weights(
        name=name, digest=spec.version, format=info.format, method=info.method, bits=info.bits,
        bits_per_weight=info.bits_per_weight, size_mb=info.size_mb, path=spec.path, host=socket.gethostname(),
        origins=read_origins(spec.path),
    )  # fmt: skip


def create_session(
    server: ServerConfig,
    tracking: TrackingConfig,
    metrics: Metrics,
    recorder: TraceRecorder | None,
    *,
    run_dir: Path,
    command: str,
    resolved: Mapping[str, Any],
    models: list[str],
) -> SessionTracker:
    """What sends the session.

    Args:
        run_dir: where its summaries are written before they are sent.
        command: the command line, secrets redacted.
        resolved: the configuration as plain values, secrets redacted.
        models: those of the start, for the run's name.
    """
    return SessionTracker(
        MlflowTracker(tracking, timeout_s=TIMEOUT_S) if tracking.enabled else NullTracker(),
        run_dir,
        metrics.stats,
        name=f"serve {', '.join(models)}".strip(),
        command=command,
        config=resolved,
        interval_s=server.tracking_interval_s,
        take_traces=recorder.take if recorder else tuple,
        weights=lambda: [_weights(name, *held) for (name, _), held in list(metrics.answered.items())],
        later=send_later_command(run_dir, tracking),
    )
