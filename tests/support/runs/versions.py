"""Versions of models that never were, and a registry in memory that is as strict as MLflow's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from lqmf_runner.config import TrackingConfig
from lqmf_runner.models.registered import Weights, WeightsVersion
from lqmf_runner.server.versions.registry import Registry
from lqmf_runner.tracking.versions import AliasChange, AliasState


def version(
    name: str, number: int, *aliases: str, digest: str = "", path: str = "", **fields: Any
) -> WeightsVersion:
    weights = Weights(name=name, digest=digest or f"d{number}", format="gguf", path=path)
    return WeightsVersion(name=name, number=number, weights=weights, aliases=sorted(aliases), **fields)


class MemoryRegistry:
    """`read_versions` and the change of `tracking.versions`, on a list. `changes` are those that were asked for."""

    def __init__(self, *versions: WeightsVersion) -> None:
        self.known = list(versions)
        self.changes: list[AliasChange] = []

    def read(self, config: TrackingConfig, *, timeout_s: int = 0) -> Sequence[WeightsVersion]:
        return list(self.known)

    def on(self, name: str, alias: str) -> int | None:
        return next((v.number for v in self.known if v.name == name and alias in v.aliases), None)

    def change(self, config: TrackingConfig, change: AliasChange, *, timeout_s: int = 0) -> AliasState:
        from lqmf_runner.errors import ConflictError

        self.changes.append(change)
        present = self.on(change.name, change.alias)
        if change.expected is not msgspec.UNSET and present not in (change.expected, change.number):
            raise ConflictError(f"{change.alias} was moved to {present}")
        self.known = [
            msgspec.structs.replace(
                v, aliases=_moved(v, change), was=[change.alias] if v.number == present else []
            )
            for v in self.known
        ]
        return AliasState(change.number, present)


def in_memory(memory: MemoryRegistry) -> Registry:
    """The registry of a server that reads and changes these."""
    return Registry(TrackingConfig(), read=memory.read, change=memory.change)


def _moved(version: WeightsVersion, change: AliasChange) -> list[str]:
    others = [alias for alias in version.aliases if alias != change.alias or version.name != change.name]
    return (
        [*others, change.alias] if (version.name, version.number) == (change.name, change.number) else others
    )
