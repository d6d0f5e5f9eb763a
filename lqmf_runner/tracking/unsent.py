"""Finished runs that should be in MLflow and are not, because it was unreachable."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec

from ..config import TrackingConfig
from ..redaction import redact_text
from ..results.files import RESULTS, read_config, read_lines
from .session import SESSION_NAME, SUMMARIES_NAME, Session, SessionSummary, read_sent

_PATTERNS = tuple(f"{'*/' * depth}{name}" for depth in range(4) for name in (RESULTS, SESSION_NAME))


class _Run(msgspec.Struct):
    finished_at: str | None = None
    mlflow_run_id: str | None = None
    sweep: str | None = None


class _Model(msgspec.Struct):
    loads: list[msgspec.Raw] = []


class _Results(msgspec.Struct):
    """Of `results.json` what is needed here: there may be thousands."""

    run: _Run
    models: list[_Model] = []


def find_unsent(root: Path, config: TrackingConfig) -> list[Path]:
    """Folders of finished runs and sessions in a folder of runs that this store should have and does not, oldest first.

    Runs that were made for another store or experiment are left out. So are runs that measured nothing, which are sent
    only as jobs of a sweep, and runs that have not ended.
    """
    if not config.enabled:
        return []
    found = {path.parent for pattern in _PATTERNS for path in root.glob(pattern)}
    unsent = [folder for folder in found if _is_unsent(folder, config)]
    # "~" puts the folder of a sweep behind those of its jobs: it takes its place in the run that they share.
    return sorted(unsent, key=lambda folder: f"{folder}/~")


def _is_unsent(folder: Path, config: TrackingConfig) -> bool:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        if (folder / SESSION_NAME).exists():
            return _session_is_unsent(folder, config)
        results = msgspec.json.decode((folder / RESULTS).read_bytes(), type=_Results)
        run, tracking = results.run, read_config(folder).get("tracking") or {}
        worth_it = run.sweep is not None or any(model.loads for model in results.models)
        meant = _is_meant(config, tracking.get("enabled"), tracking.get("uri"), tracking.get("experiment"))
        return worth_it and meant and run.finished_at is not None and run.mlflow_run_id is None
    return False


def _session_is_unsent(folder: Path, config: TrackingConfig) -> bool:
    params = msgspec.json.decode((folder / SESSION_NAME).read_bytes(), type=Session).params
    enabled = params.get("tracking.enabled") == "true"
    if not _is_meant(config, enabled, params.get("tracking.uri"), params.get("tracking.experiment")):
        return False
    summaries = read_lines(folder / SUMMARIES_NAME, SessionSummary)
    sent = read_sent(folder)
    return bool(summaries) and summaries[-1].final and (sent is None or sent.summaries < len(summaries))


def _is_meant(config: TrackingConfig, enabled: Any, uri: Any, experiment: Any) -> bool:
    """Whether a run's settings name this store. A login in them was taken out before they were saved."""
    return (enabled, uri, experiment) == (True, redact_text(config.uri), config.experiment)
