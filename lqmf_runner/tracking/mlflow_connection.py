"""Reaching MLflow: a client whose errors are ours, the experiment, and a lock against other processes of ours."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import TrackingConfig
from ..errors import TrackingError
from ..redaction import redact_text
from . import URI_VARIABLE
from .values import shorten

if TYPE_CHECKING:
    from mlflow import MlflowClient


@contextlib.contextmanager
def connected(config: TrackingConfig) -> Iterator[MlflowClient]:
    """A client; MLflow's errors become ours."""
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise TrackingError(f"MLflow cannot be imported: {error}", hint="pip install mlflow") from None
    try:
        yield MlflowClient(tracking_uri=config.uri)
    except MlflowException as error:
        if "database schema" in str(error):
            raise _other_version(config) from error
        raise TrackingError(f"MLflow at {redact_text(config.uri)}: {_why(error)}") from error


def find_experiment(client: MlflowClient, config: TrackingConfig) -> str | None:
    """Id of the experiment, None if there is none.

    Raises:
        TrackingError: it is deleted. MLflow keeps its name, takes no runs and finds none.
    """
    found = client.get_experiment_by_name(config.experiment)
    if found is None:
        return None
    if found.lifecycle_stage == "deleted":
        restore = f"{_mlflow(config)} experiments restore -x {found.experiment_id}"
        raise TrackingError(
            f"the experiment {config.experiment} is deleted in MLflow at {redact_text(config.uri)}",
            hint=f"bring it back: {restore}; or name another one with tracking.experiment=",
        )
    return str(found.experiment_id)


def experiment_id(client: MlflowClient, config: TrackingConfig) -> str:
    """Id of the experiment. A local store keeps its artifacts where the configuration says, a server where it likes.

    Raises:
        TrackingError: it is deleted.
    """
    found = find_experiment(client, config)
    if found is not None:
        return found
    remote = config.uri.startswith(("http://", "https://", "databricks"))
    location = None if remote else Path(config.artifacts).resolve().as_uri()
    return str(client.create_experiment(config.experiment, artifact_location=location))


@contextlib.contextmanager
def locked_store(config: TrackingConfig, folder: Path) -> Iterator[None]:
    """Hold the store against other processes of ours, so that one makes it and the others find it.

    Args:
        folder: held where the store is not a SQLite file, whose own folder is made if it is not there.
    """
    if config.uri.startswith("sqlite:///") and not config.uri.endswith(":memory:"):
        folder = Path(config.uri.removeprefix("sqlite:///")).parent
        folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _other_version(config: TrackingConfig) -> TrackingError:
    from mlflow import __version__

    return TrackingError(
        f"the store {redact_text(config.uri)} was made by another version of MLflow than {__version__}",
        hint=f"an older one: keep a copy, then mlflow db upgrade {shlex.quote(redact_text(config.uri))}; "
        "a newer one: pip install --upgrade mlflow",
    )


def _mlflow(config: TrackingConfig) -> str:
    """MLflow's command line for this store."""
    return f"{URI_VARIABLE}={shlex.quote(redact_text(config.uri))} mlflow"


def _why(error: Exception) -> str:
    """An error in a few words: MLflow's own quote the whole chain of causes."""
    text = redact_text(" ".join(str(error).split()))
    if "Max retries exceeded" in text:
        return "it cannot be reached" if "timed out" not in text else "it does not answer"
    return shorten(text, 300)
