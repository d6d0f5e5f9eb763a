"""MLflow's model registry as an index of measured weights: which there are, and which to take. No weights go there.

A registered model for each model name, a version of it for each content version of the weights. The alias `current`
is on the version that was measured last. `best` is on the one with the lowest mean KL divergence, or where that is not
known of all, with the most output tokens per second under the first load; only versions whose last run was made on
the same system under the same conditions compete.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..reports.figures import format_name, megabytes, number
from ..results.schema import ModelResult

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CURRENT, BEST = "current", "best"


def register_model(client: MlflowClient, run_id: str, model: ModelResult, setting: Mapping[str, str]) -> None:
    """Note that a run has measured these weights. `setting` are the tags that say how and where.

    Raises:
        MlflowException: the store has no registry, or refuses.
    """
    if not model.version or not model.loads:
        return
    name = re.sub(r"[/:%\"'\\]", "_", model.name)
    _ensure_model(client, name)
    measured = {
        "last_run": run_id,
        "tokens_per_s": next(
            (x.output_tokens_per_s for x in model.loads if x.shape.concurrency is not None), None
        ),
        "kld": model.quality.kld.mean if model.quality.kld else None,
    } | dict(setting)
    versions = client.search_model_versions(f"name='{name}'")
    version = next((v for v in versions if v.tags.get("version") == model.version), None)
    if version is None:
        source = client.get_run(run_id).info.artifact_uri
        facts = (
            format_name(model),
            f"{number(model.bits_per_weight)} bits a weight",
            megabytes(model.size_mb),
        )
        known = {"version": model.version, "format": model.format, "method": model.method, "bits": model.bits}
        version = client.create_model_version(
            name, source, run_id, description=", ".join(facts),
            tags={key: str(value) for key, value in known.items() if value is not None},
        )  # fmt: skip
    for key, value in measured.items():
        if value is not None:
            text = value if isinstance(value, str) else f"{value:.5g}"
            client.set_model_version_tag(name, version.version, key, text)
        elif key in version.tags:
            client.delete_model_version_tag(name, version.version, key)
    client.set_registered_model_alias(name, CURRENT, version.version)
    peers = [
        other
        for other in client.search_model_versions(f"name='{name}'")
        if all(other.tags.get(key) == value for key, value in setting.items())
    ]
    if best := _best(peers):
        client.set_registered_model_alias(name, BEST, best.version)


def _ensure_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(
            name, description="Weights measured by lqmf-runner; the registry holds figures, not the weights."
        )


def _best(versions: list[ModelVersion]) -> ModelVersion | None:
    if all("kld" in version.tags for version in versions):
        return min(versions, key=lambda version: float(version.tags["kld"]), default=None)
    timed = [version for version in versions if "tokens_per_s" in version.tags]
    return max(timed, key=lambda version: float(version.tags["tokens_per_s"]), default=None)
