"""Which files `name@champion` or `name@3` means."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ...config import ModelConfig, RunConfig
from ...models.registered import WeightsVersion, choose, find_files, split_reference
from ...models.roots import Folders


def resolve_version(config: RunConfig, versions: Sequence[WeightsVersion]) -> RunConfig:
    """The configuration with the path and the digest of the version that it names; unchanged if it names none.

    Args:
        versions: all that the registry has.

    Raises:
        ModelNotFoundError: there is no such version, or its files are gone or have changed.
    """
    model = config.model
    if model.version is None:
        return config
    parts = split_reference(model.name)
    name = parts[0] if parts and parts[1] == model.version else model.name
    version = choose(versions, name, model.version)
    return dataclasses.replace(config, model=of_version(version, config.models_dir))


def of_version(version: WeightsVersion, models_dir: Folders) -> ModelConfig:
    """The model that is this version, under the name that its number gives it.

    Raises:
        ModelNotFoundError: its files are gone or have changed.
    """
    path = find_files(version, models_dir)
    return ModelConfig(name=version.label, path=str(path), digest=version.weights.digest)
