"""The connection to MLflow: a client whose errors are ours, and the experiment."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..config import TrackingConfig
from ..errors import TrackingError
from ..install import install_line, pip_line
from ..redaction import redact_text
from . import URI_VARIABLE
from .artifacts import artifact_location
from .store_lock import database_words, locked_database
from .values import shorten

if TYPE_CHECKING:
    from mlflow import MlflowClient


def import_client() -> None:
    """Import MLflow, which takes seconds.

    Raises:
        TrackingError: it cannot be imported.
    """
    try:
        from mlflow import MlflowClient  # noqa: F401
    except ImportError as error:
        raise TrackingError(f"MLflow cannot be imported: {error}", hint=install_line()) from None


@contextlib.contextmanager
def connected(config: TrackingConfig) -> Iterator[MlflowClient]:
    """A client whose errors are translated to ours."""
    import_client()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with locked_database(config):  # in an empty one, the client makes the tables
            client = MlflowClient(tracking_uri=config.uri)
        yield client
    except (MlflowException, SQLAlchemyError) as error:
        if "database schema" in str(error):
            raise _other_version(config) from error
        raise TrackingError(f"MLflow at {redact_text(config.uri)}: {_why(error)}") from error


@contextlib.contextmanager
def unless_deleted(client: MlflowClient, run_id: str) -> Iterator[None]:
    """Ignore that a run cannot be changed because somebody else has deleted it."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException:
        if client.get_run(run_id).info.lifecycle_stage != "deleted":
            raise


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
    """Id of the experiment, which is made if it is not there.

    Raises:
        TrackingError: it is deleted.
    """
    from mlflow.exceptions import MlflowException

    found = find_experiment(client, config)
    if found is not None:
        return found
    try:
        return str(client.create_experiment(config.experiment, artifact_location=artifact_location(config)))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return find_experiment(client, config) or ""  # another process has made it meanwhile


def _other_version(config: TrackingConfig) -> TrackingError:
    from mlflow import __version__

    return TrackingError(
        f"the store {redact_text(config.uri)} was made by another version of MLflow than {__version__}",
        hint=f"an older one: keep a copy, then mlflow db upgrade {shlex.quote(redact_text(config.uri))}; "
        f"a newer one: {pip_line('--upgrade', 'mlflow')}",
    )


def _mlflow(config: TrackingConfig) -> str:
    """MLflow's command line for this store."""
    return f"{URI_VARIABLE}={shlex.quote(redact_text(config.uri))} mlflow"


def _why(error: Exception) -> str:
    """A short form of an error: MLflow's own quote the whole chain of causes."""
    text = database_words(error)
    if "Max retries exceeded" in text:
        return "it cannot be reached" if "timed out" not in text else "it does not answer"
    return shorten(text, 300)
