"""Versions side by side: the figures of their last runs, and which differences are more than noise."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ...config import TrackingConfig, VerdictConfig
from ...errors import UserInputError
from ...models.registered import WeightsVersion
from ...results.files import read_results
from ...results.schema import ModelResult
from ...results.verdict import Difference
from ...tracking import MlflowTracker
from ...verdict.candidates import candidate, verdict_concurrency
from ...verdict.differences import differences


class VersionsCompared(msgspec.Struct, frozen=True):
    """The differences from the first version, and what makes them weaker."""

    differences: list[Difference]
    cautions: list[str]


def compare_versions(versions: Sequence[WeightsVersion], tracking: TrackingConfig) -> VersionsCompared:
    """Each version against the first, by the figures of the run that measured it last.

    Raises:
        UserInputError: one was never measured.
        TrackingError: MLflow cannot be read.
    """
    models = [_last_figures(version, tracking) for version in versions]
    users = verdict_concurrency(models, VerdictConfig())
    first = candidate(models[0], users)
    found = [each for model in models[1:] for each in differences(first, candidate(model, users))]
    cautions = []
    if len({version.system for version in versions}) > 1:
        cautions.append("They were measured on different machines: their speeds do not compare.")
    if len({version.conditions for version in versions}) > 1:
        cautions.append(
            "They were measured under different prompts or settings: mode=compare measures them together."
        )
    return VersionsCompared(found, cautions)


def _last_figures(version: WeightsVersion, tracking: TrackingConfig) -> ModelResult:
    if not version.last_run:
        raise UserInputError(
            f"{version.label} was served, and never measured",
            hint=f"measure it: mode=benchmark model={version.label}",
        )
    with tempfile.TemporaryDirectory() as fetched:
        MlflowTracker(tracking).fetch(version.last_run, Path(fetched))
        models = read_results(Path(fetched)).models
    own = next((model for model in models if model.version == version.weights.digest), None)
    if own is None:
        raise UserInputError(
            f"the run {version.last_run[:8]} of {version.label} holds no figures of it any more"
        )
    return msgspec.structs.replace(own, name=version.label)
