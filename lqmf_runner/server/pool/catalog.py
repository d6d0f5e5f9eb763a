"""Which models a server can load: those of the configuration and those in the models folder, by name.

A name that comes in with a request is only ever compared with names that are known; it never becomes a path.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import difflib
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from ...config import BackendConfig, ModelConfig, RunConfig
from ...errors import LqmfError, ModelNotFoundError, ModelUnusableError
from ...formats import is_remote
from ...models import FoundModel, discover, locate
from ...models.discover import needed_weights_mb, weight_paths
from ...models.locate import find, fit_backend
from ...models.roots import Folders, is_inside
from ...types import ModelSpec, Placement

_LONGEST_NAME = 100
_ALIKE = 0.75
_FRESH_S = 2.0  # how long a listing of the models is cached


Identity = tuple[str, str, bytes, tuple[tuple[int, int], ...]]
"""Format, content version, settings, and the files of the weights by device and inode."""


class CatalogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A model that can be loaded, as its files describe it. Sizes in MB are 10^6 bytes; 0 where not known.

    `modified_at`: when its folder or file was changed, in seconds since 1970. `context_length`: what it was made for.
    """

    name: str
    format: str
    method: str = ""
    bits: float = 0.0
    size_mb: float = 0.0
    version: str = ""
    problem: str = ""
    architecture: str = ""
    parameters: int = 0
    context_length: int = 0
    embeddings: bool = False
    modified_at: float = 0.0


class Catalog(Protocol):
    """Finds models by name for a pool."""

    async def find(self, name: str) -> tuple[ModelSpec, float]:
        """How to load the model, and the size of its weights in MB (0 where there are none here).

        Raises:
            ModelNotFoundError: there is no model of this name, or its weights are not here.
            ModelUnusableError: its files are damaged or refused.
        """

    async def entries(self) -> list[CatalogEntry]:
        """All models, the broken ones with the reason."""


class LocalCatalog:
    """The models of the configuration, and those in the models folder that have none.

    Args:
        configs: the composed configuration of every configured model, by name.
        backend: settings for models without a configuration.
        models_dir: the folder, or the folders.
        chosen: those that may be downloaded from the hub; no client makes the server do that with others.
        placement: where the workers of models without a configuration run.
    """

    def __init__(
        self,
        configs: Mapping[str, RunConfig],
        backend: BackendConfig,
        models_dir: Folders,
        *,
        chosen: Collection[str] = (),
        placement: Placement = Placement(),  # noqa: B008 (frozen)
    ) -> None:
        self._configs = dict(configs)
        self._chosen = frozenset(chosen)
        self._backend = backend
        self._placement = placement
        self._models_dir = models_dir
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
        raise unknown_model(name, (entry.name for entry in self._entries if not entry.problem))

    def has(self, name: str) -> bool:
        """Whether the configuration or the last listing of the folder has this name."""
        return name in self._configs or name in self._folder

    def locate_as(self, name: str, model: ModelConfig) -> tuple[ModelSpec, float]:
        """Other weights under the settings of this name, and their size in MB; raises like `models.locate`."""
        config = self._configs.get(name)
        backend = self._backend if config is None else config.backend
        placement = self._placement if config is None else config.placed
        spec = locate(model, backend, self._models_dir, download=False, placement=placement)
        return spec, needed_weights_mb(spec)

    async def entries(self) -> list[CatalogEntry]:
        """See `Catalog`. A configured model is listed where its weights are here."""
        await self._refresh()
        return self._entries

    def _is_inside(self, found: FoundModel) -> bool:
        """Whether it is in a models folder itself, and not behind a link to another place."""
        return is_inside(Path(found.path), self._models_dir)

    async def _refresh(self) -> None:
        """List the files again if the last listing is old. Concurrent callers wait for the same listing.

        It takes tenths of a second of a thread, with which the answers to others share the interpreter.
        """
        async with self._listing:
            if time.monotonic() - self._listed_at > _FRESH_S:
                self._folder, self._entries = await asyncio.to_thread(self._list)
                self._listed_at = time.monotonic()

    def _list(self) -> tuple[dict[str, FoundModel], list[CatalogEntry]]:
        # Of several models with one name, the first is used.
        folder = {m.name: m for m in reversed(discover(self._models_dir))}
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
        download = name in self._chosen
        return locate(
            config.model, config.backend, config.models_dir, download=download, placement=config.placed
        )

    def _discovered(self, found: FoundModel) -> ModelSpec:
        if found.problem:
            raise ModelUnusableError(f"{found.name} cannot be used: {found.problem}")
        fitted = fit_backend(self._backend, found, found.name)
        return ModelSpec(
            name=found.name,
            format=found.format,
            path=found.path,
            version=found.version,
            options=dataclasses.asdict(fitted),
            placement=self._placement,
        )


def create_catalog(
    chosen: Sequence[RunConfig], names: Iterable[str], compose: Callable[..., RunConfig], models_dir: Folders
) -> LocalCatalog:
    """The catalog of a run.

    Args:
        chosen: the models of the start.
        names: of all model configurations.
        compose: the configuration of one of them under the run's settings.
    """
    own = {model.model.name: model for model in chosen}
    general = _general(compose)
    draft = general.backend.draft_model  # applies to the chosen models only: others have other vocabularies
    configs = {name: _without(draft, config) for name, config in _usable(names, compose).items()} | own
    backend = _without(draft, general).backend
    return LocalCatalog(configs, backend, models_dir, chosen=list(own), placement=general.placed)


def _without(draft: str | None, config: RunConfig) -> RunConfig:
    """The configuration without this draft model; one that is its own stays."""
    if draft is None or config.backend.draft_model != draft:
        return config
    return dataclasses.replace(config, backend=dataclasses.replace(config.backend, draft_model=None))


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


def _general(compose: Callable[..., RunConfig]) -> RunConfig:
    """The settings for models without a configuration: the run's, where they are not of one format only."""
    try:
        return compose("local", "model.name=any")
    except LqmfError:
        return RunConfig()


def unknown_model(name: str, known: Iterable[str]) -> ModelNotFoundError:
    """The error for an unknown name. It suggests the most similar known name."""
    hint = "GET /models/available lists those there are"
    if not (name.isprintable() and len(name) <= _LONGEST_NAME):
        return ModelNotFoundError("there is no model of that name", hint=hint)
    by_plain = {_plain(one): one for one in known}
    close = difflib.get_close_matches(_plain(name), by_plain, n=1, cutoff=_ALIKE)
    meant = f" (did you mean {by_plain[close[0]]}?)" if close else ""
    return ModelNotFoundError(f"there is no model {name!r}{meant}", hint=hint)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()


def identity(spec: ModelSpec) -> Identity | None:
    """What is equal for two names of the same files, links included, under the same settings; None without files.

    The content version alone would not do: it samples the weights, and an edited layer may lie between the samples.
    """
    try:
        places = [file.stat() for file in weight_paths(spec.path)]
    except OSError:  # they were deleted just now; the load will report it
        return None
    files = tuple(sorted((place.st_dev, place.st_ino) for place in places))
    settings = msgspec.json.encode((spec.options, spec.placement))
    return (spec.format, spec.version, settings, files) if files else None


def _located(name: str, find_spec: Callable[[], ModelSpec]) -> tuple[ModelSpec, float]:
    """If it is missing, the message to the client must not name the places that were searched."""
    try:
        spec = find_spec()
        return msgspec.structs.replace(spec, name=name), needed_weights_mb(spec)
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
        architecture=found.architecture,
        parameters=found.parameters,
        context_length=found.context_length,
        embeddings=found.embeddings,
        modified_at=_modified_at(found.path),
    )


def _modified_at(path: str) -> float:
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return 0.0
