"""Reading past runs back from MLflow, as plain data. Runs in the child process, like all that imports it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..config import TrackingConfig
from ..results.history import PastRun
from .mlflow_connection import find_experiment
from .values import ROLE, ROLE_MODEL

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 500


def read_runs(client: MlflowClient, config: TrackingConfig, most: int) -> Iterator[PastRun]:
    """The newest runs of models, newest first; runs that only group others are left out.

    Raises:
        TrackingError: the experiment is deleted.
    """
    experiment = find_experiment(client, config)
    token: str | None = None
    while experiment is not None and most > 0:
        page = client.search_runs(
            [experiment], f"tags.`{ROLE}` = '{ROLE_MODEL}'", max_results=min(_PAGE, most),
            order_by=["attributes.start_time DESC"], page_token=token,
        )  # fmt: skip
        yield from map(_past_run, page)
        most -= len(page)
        token = page.token
        if not token:
            return


def _past_run(run: Run) -> PastRun:
    tags = run.data.tags
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC).astimezone()
    return PastRun(
        id=run.info.run_id, started_at=started.isoformat(timespec="seconds"), model=tags.get("model", ""),
        mode=tags.get("mode", ""), format=tags.get("format"), method=tags.get("method"), version=tags.get("version"),
        status=tags.get("status", ""), commit=tags.get("mlflow.source.git.commit"), prompts=tags.get("prompts"),
        system=tags.get("lqmf.system", ""), conditions=tags.get("lqmf.conditions", ""),
        command=tags.get("command", ""), metrics=dict(run.data.metrics),
    )  # fmt: skip
