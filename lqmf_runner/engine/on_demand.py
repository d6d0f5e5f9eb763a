"""A model that is loaded at its first use, and the observer that shows the progress of loads and other work."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from ..types import ModelSpec
from .client import EngineClient

LoadEngine = Callable[[ModelSpec, Callable[[float], None] | None], Awaitable[EngineClient]]


class WorkObserver(Protocol):
    """Shows the progress of work that is counted in steps. Its methods must return quickly."""

    def loading(self, model: str, share: float) -> None:
        """`share` of the model is loaded, 0 to 1."""

    def work_started(self, model: str, what: str, total: int) -> None:
        """Work of `total` steps begins."""

    def work_advanced(self, done: int) -> None:
        """`done` of the steps are done."""

    def work_ended(self, model: str, what: str, summary: str) -> None:
        """The work is done; `summary` says how it went."""


class OnDemandEngine:
    """Loads a model the first time that `client` is called. Close it in any case."""

    def __init__(self, spec: ModelSpec, load: LoadEngine, observer: WorkObserver) -> None:
        self._spec = spec
        self._load = load
        self._observer = observer
        self._client: EngineClient | None = None

    async def client(self) -> EngineClient:
        """The loaded model.

        Raises:
            LqmfError: it cannot be loaded.
        """
        if self._client is None:
            name, began = self._spec.name, time.perf_counter()
            self._client = await self._load(self._spec, lambda share: self._observer.loading(name, share))
            self._observer.work_ended(name, "load", f"{time.perf_counter() - began:.1f} s")
        return self._client

    async def close(self) -> None:
        """Unload it, if it was loaded."""
        if self._client is not None:
            await self._client.close()
