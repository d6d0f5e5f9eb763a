"""Finds versions of models beside the models that lie in the folder."""

from __future__ import annotations

import asyncio

from ...models.registered import WeightsVersion, choose, split_reference
from ...models.roots import Folders
from ...runs.versions.resolve import of_version
from ...types import ModelSpec
from ..pool.catalog import CatalogEntry, LocalCatalog
from .registry import Registry


class VersionedCatalog:
    """A catalog that also finds `name@3`. What the configuration or the folder calls so comes first."""

    def __init__(self, local: LocalCatalog, registry: Registry, models_dir: Folders) -> None:
        self._local = local
        self._registry = registry
        self._models_dir = models_dir

    async def find(self, name: str) -> tuple[ModelSpec, float]:
        """See `Catalog`.

        Raises:
            UnavailableError: the registry cannot be read.
        """
        parts = split_reference(name)
        if parts is None or self._local.has(name):
            return await self._local.find(name)
        version = choose(await self._registry.versions(), *parts)
        return await asyncio.to_thread(self._located, version)

    async def entries(self) -> list[CatalogEntry]:
        """See `Catalog`. Versions are listed by `mode=versions`."""
        return await self._local.entries()

    def _located(self, version: WeightsVersion) -> tuple[ModelSpec, float]:
        return self._local.locate_as(version.name, of_version(version, self._models_dir))
