"""Which models a server can load: those of the configuration and those in the models folder, by name.

A name that comes in with a request is only ever compared with names that are known; it never becomes a path.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from ...config import BackendConfig, RunConfig
from ...errors import LqmfError, ModelNotFoundError, ModelUnusableError
from ...formats import is_remote
from ...models import FoundModel, discover, locate
from ...models.discover import WEIGHT_SUFFIXES
from ...models.locate import find, fit_backend
from ...types import ModelSpec

_FRESH_S = 2.0  # how long a listing of the models is believed


class CatalogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A model that can be loaded, as its files describe it. Sizes in MB are 10^6 bytes; 0 where not known."""

    name: str
    format: str
    method: str = ""
    bits: float = 0.0
    size_mb: float = 0.0
    version: str = ""
    problem: str = ""


class Catalog(Protocol):
    """Where a pool finds models by name."""

    async def find(self, name: str) -> tuple[ModelSpec, float]:
        """How to load the model, and the size of its weights in MB (0 where there are none here).

        Raises:
            ModelNotFoundError: there is no model of this name, or its weights are not here.
            ModelUnusableError: its files are damaged or refused.
        """

    async def entries(self) -> list[CatalogEntry]:
        """All models there are, the broken ones with the reason."""


class LocalCatalog:
    """The models of the configuration, and those in the models folder that have none.

    Args:
        configs: the composed configuration of every configured model, by name.
        backend: settings for models without a configuration.
        models_dir: the folder.
        chosen: those that may be downloaded from the hub; no client makes the server do that with others.
    """

    def __init__(
        self,
        configs: Mapping[str, RunConfig],
        backend: BackendConfig,
        models_dir: str | Path,
        *,
        chosen: Collection[str] = (),
    ) -> None:
        self._configs = dict(configs)
        self._chosen = frozenset(chosen)
        self._backend = backend
        self._models_dir = Path(models_dir)
        self._folder: dict[str, FoundModel] = {}
        self._entries: list[CatalogEntry] = []
        self._listed_at = -_FRESH_S
        self._listing = asyncio.Lock()

    async def find(self, name: str) -> tuple[ModelSpec, float]:
        """See `Catalog`."""
        if config := self._configs.get(name):
            return await asyncio.to_thread(_located, name, partial(self._configured, name, config))
        await self._refresh()
        found = self._folder.get(name)
        if found is not None and self._is_inside(found):
            return await asyncio.to_thread(_located, name, partial(self._discovered, found))
        raise unknown_model(name)

    async def entries(self) -> list[CatalogEntry]:
        """See `Catalog`. A configured model is listed where its weights are here."""
        await self._refresh()
        return self._entries

    def _is_inside(self, found: FoundModel) -> bool:
        """Whether it is in the models folder itself, and not behind a link to another place."""
        return Path(found.path).resolve().is_relative_to(self._models_dir.resolve())

    async def _refresh(self) -> None:
        """List the files again if the last listing is old. Concurrent callers wait for the same listing.

        It takes tenths of a second of a thread, with which the answers to others share the interpreter.
        """
        async with self._listing:
            if time.monotonic() - self._listed_at > _FRESH_S:
                self._folder, self._entries = await asyncio.to_thread(self._list)
                self._listed_at = time.monotonic()

    def _list(self) -> tuple[dict[str, FoundModel], list[CatalogEntry]]:
        folder = {model.name: model for model in discover(self._models_dir)}
        others = [_entry(name, found) for name, found in folder.items() if name not in self._configs]
        return folder, [*self._list_configured(), *others]

    def _list_configured(self) -> list[CatalogEntry]:
        entries = []
        for name, config in self._configs.items():
            if is_remote(config.backend.format):
                entries.append(CatalogEntry(name=name, format=config.backend.format, method="remote"))
                continue
            try:  # without asking the hub
                found = find(dataclasses.replace(config.model, hub_id=None), self._models_dir)
            except LqmfError:
                continue
            entries.append(_entry(name, found))
        return entries

    def _configured(self, name: str, config: RunConfig) -> ModelSpec:
        return locate(config.model, config.backend, config.models_dir, download=name in self._chosen)

    def _discovered(self, found: FoundModel) -> ModelSpec:
        if found.problem:
            raise ModelUnusableError(f"{found.name} cannot be used: {found.problem}")
        fitted = fit_backend(self._backend, found, found.name)
        options = dataclasses.asdict(fitted)
        return ModelSpec(
            name=found.name, format=found.format, path=found.path, version=found.version, options=options
        )


def create_catalog(
    chosen: Sequence[RunConfig], names: Iterable[str], compose: Callable[..., RunConfig], models_dir: str
) -> LocalCatalog:
    """The catalog of a run.

    Args:
        chosen: the models of the start.
        names: of all model configurations.
        compose: the configuration of one of them under the run's settings.
    """
    own = {model.model.name: model for model in chosen}
    configs = _usable(names, compose) | own
    return LocalCatalog(configs, _general_backend(compose), models_dir, chosen=list(own))


def _usable(names: Iterable[str], compose: Callable[..., RunConfig]) -> dict[str, RunConfig]:
    """The configurations that go with the run's settings.

    An endpoint elsewhere is served only when it was chosen: nobody knows whether there is one.
    """
    configs = {}
    for name in names:
        if name != "local":
            with contextlib.suppress(LqmfError):
                config = compose(name)
                if not is_remote(config.backend.format):
                    configs[name] = config
    return configs


def _general_backend(compose: Callable[..., RunConfig]) -> BackendConfig:
    """The settings for models without a configuration: the run's, where they are not of one format only."""
    try:
        return compose("local", "model.name=any").backend
    except LqmfError:
        return BackendConfig()


def unknown_model(name: str) -> ModelNotFoundError:
    """The error for a name that no model has."""
    shown = repr(name) if name.isprintable() and len(name) <= 100 else "of that name"
    return ModelNotFoundError(
        f"there is no model {shown}", hint="GET /models/available lists those there are"
    )


def weights_mb(path: str) -> float:
    """Size of the weights at `path`, a file or a folder; 0 for an empty path."""
    place = Path(path)
    if not path:
        return 0.0
    files = [place] if place.is_file() else [f for f in place.iterdir() if f.suffix in WEIGHT_SUFFIXES]
    return sum(file.stat().st_size for file in files) / 1e6


def _located(name: str, find_spec: Callable[[], ModelSpec]) -> tuple[ModelSpec, float]:
    """If it is missing, the message to the client must not name the places that were searched."""
    try:
        spec = find_spec()
        return msgspec.structs.replace(spec, name=name), weights_mb(spec.path)
    except ModelNotFoundError:
        raise ModelNotFoundError(
            f"the weights of {name!r} are not on this machine",
            hint="GET /models/available lists those that are",
        ) from None


def _entry(name: str, found: FoundModel) -> CatalogEntry:
    return CatalogEntry(
        name=name,
        format=found.format,
        method=found.method,
        bits=found.bits,
        size_mb=found.size_mb,
        version=found.version,
        problem=found.problem,
    )
