"""The place of a store's artifacts, and whether all machines that use the store have it.

A database holds no files. MLflow keeps those of its runs in the place that was named when the experiment was made. If
that is a folder, every machine writes into its own folder of that name, and nobody notices. So the first to come
leaves a mark in the folder and in the experiment; a machine that does not find the same mark in both has another
folder.
"""

from __future__ import annotations

import socket
import uuid
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ..config import TrackingConfig
from . import is_server
from .store_lock import locked_database

if TYPE_CHECKING:
    from mlflow import MlflowClient

ARTIFACTS_TAG = "lqmf.artifacts"
_MARK = ".lqmf-artifacts"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def artifact_location(config: TrackingConfig) -> str | None:
    """Where a new experiment keeps its artifacts: a folder or an address such as `s3://bucket`. A server chooses."""
    if is_server(config.uri):
        return None
    return config.artifacts if "://" in config.artifacts else Path(config.artifacts).resolve().as_uri()


def artifact_note(client: MlflowClient, config: TrackingConfig, experiment: str) -> str:
    """A note for the user about the place of a run's artifacts; empty if all machines that use the store have it.

    A SQLite file is one machine's, and so is its folder of artifacts.
    """
    if config.uri.startswith(("sqlite:", "file:")) or "://" not in config.uri:
        return ""
    folder = _local_folder(client.get_experiment(experiment).artifact_location)
    if folder is None:
        return ""
    host = socket.gethostname()
    with locked_database(config):
        shared = _same_mark(client, experiment, folder)
    if is_server(config.uri) and urlsplit(config.uri).hostname not in _LOOPBACK:
        shared = False  # the server does not accept files, and shows those of its own disk
    if shared:
        return ""
    return (
        f"the artifacts are only on {host}, in {folder}; for several machines start the MLflow server with "
        "--artifacts-destination, or name a shared folder or a bucket with tracking.artifacts= and a new experiment"
    )


def _local_folder(location: str) -> Path | None:
    """The folder that an experiment's location is; None for an address."""
    parts = urlsplit(location)
    if parts.scheme in ("", "file") and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return None


def _same_mark(client: MlflowClient, experiment: str, folder: Path) -> bool:
    """Whether the folder has the experiment's mark. The first to ask makes it."""
    mark = client.get_experiment(experiment).tags.get(ARTIFACTS_TAG)
    file = folder / _MARK
    try:
        if mark is not None:
            return file.is_file() and file.read_text("utf-8").strip() == mark
        mark = uuid.uuid4().hex
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(mark + "\n", "utf-8")
    except OSError:
        return False
    client.set_experiment_tag(experiment, ARTIFACTS_TAG, mark)
    return True
