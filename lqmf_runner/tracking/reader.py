"""Reads past runs from MLflow as plain data, and makes the link to them in its page. Runs in the child process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..config import TrackingConfig
from ..results.history import PastRun
from ..results.metrics import METRICS
from .mlflow_connection import connected, find_experiment
from .values import ROLE, ROLE_MODEL

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 500
ADDRESS = "http://127.0.0.1:5000"
_KEY = "lqmf"
_TAG = f"mlflow.sharedViewState.{_KEY}"  # MLflow's page keeps a view that is shared under such a tag
_SHOWN = ("tokens_per_s", "ttft_s", "memory_mb", "kld", "top1")


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


def save_view(config: TrackingConfig) -> str:
    """Keep the view with the experiment, and give the link that opens it; without runs the link to MLflow's page.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    with connected(config) as client:
        experiment = find_experiment(client, config)
        if experiment is None:
            return ADDRESS
        tracked = [METRICS[key] for key in _SHOWN]
        metrics = [f"c1/{each.tracked}" if each.of_load else each.tracked for each in tracked]
        columns = [
            "attributes.`Created`",
            *(f"tags.`{name}`" for name in ("mode", "format", "method", "prompts")),
        ]
        view = {
            "selectedColumns": [*columns, *(f"metrics.`{name}`" for name in metrics)],
            "searchFilter": f"tags.`{ROLE}` = '{ROLE_MODEL}'",
            # Sorted by start, the page would show runs folded below their parents, without figures.
            "orderByKey": "attributes.end_time",
            "orderByAsc": False,
        }
        client.set_experiment_tag(experiment, _TAG, json.dumps(view))
    return f"{ADDRESS}/#/experiments/{experiment}/runs?viewStateShareKey={_KEY}"
