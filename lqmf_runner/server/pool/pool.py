"""`ModelPool`: the loaded models, limited in number and memory.

Everything runs on one event loop, and state changes without an await in between. A load is one task. All requests for
the model wait for it, and it continues when one of them is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial

from ...config import ServerConfig
from ...engine import EngineClient, load_engine
from ...errors import ConflictError, LqmfError, UnavailableError
from ...types import ModelSpec
from .admission import to_evict, too_many
from .catalog import Catalog
from .pooled_model import READY, RESTARTING, PooledModel

log = logging.getLogger(__name__)

Loader = Callable[[ModelSpec, Callable[[float], None] | None], Awaitable[EngineClient]]

FIRST_RETRY_S, LONGEST_RETRY_S, STABLE_S = 1.0, 60.0, 60.0
MEASURE_S = 5.0  # the shortest time between two measurements that requests cause


class ModelPool:
    """Owns the engines.

    Args:
        load: starts an engine; replaced in tests.
    """

    def __init__(self, catalog: Catalog, config: ServerConfig, *, load: Loader = load_engine) -> None:
        self.catalog = catalog
        self._config = config
        self._load = load
        self._models: dict[str, PooledModel] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._restarts: dict[PooledModel, asyncio.Task[None]] = {}
        self._uses = 0
        self._measured_at = -MEASURE_S
        self._closed = False

    @property
    def models(self) -> list[PooledModel]:
        """All that are loaded or being loaded."""
        return list(self._models.values())

    def get(self, name: str) -> PooledModel | None:
        """The model if it is loaded or being loaded."""
        return self._models.get(name)

    @property
    def memory_mb(self) -> float:
        """The memory that all of them count for."""
        return sum(model.needs_mb for model in self._models.values())

    @contextlib.asynccontextmanager
    async def lease(
        self, name: str, *, keep_alive_s: float | None = None
    ) -> AsyncGenerator[tuple[PooledModel, EngineClient], None]:
        """Hold a model for a request, loading it first if need be; it is not unloaded meanwhile.

        Args:
            keep_alive_s: unload it when it was idle for so long after this; negative is never, None the default.

        Raises:
            ModelNotFoundError: there is no such model.
            ConflictError: it is not loaded, and `server.autoload` is off.
            DoesNotFitError: there is no room for it.
            UnavailableError: it has crashed and will be tried again later.
            LqmfError: what the load failed with.
        """
        model = self._models.get(name)
        if model is None:
            model = await self._begin(name, autoload=self._config.autoload)
        model.busy += 1
        try:
            engine = await self._engine(model)
            self._touch(model)
            model.requests += 1
            model.keep(keep_alive_s)
            yield model, engine
        finally:
            model.busy -= 1
            self._touch(model)
            self._watch_growth()

    async def load(
        self, name: str, *, pin: bool | None = None, keep_alive_s: float | None = None
    ) -> PooledModel:
        """Load a model, or wait until it is loaded; raises like `lease`."""
        model = self._models.get(name) or await self._begin(name, autoload=True)
        if pin is not None:
            model.pinned = pin
        model.keep(keep_alive_s)
        await self._engine(model)
        self._touch(model)
        return model

    async def unload(self, name: str, *, force: bool = False) -> bool:
        """Unload a model and give its memory back; False when it was not loaded.

        Raises:
            ModelNotFoundError: there is no such model.
            ConflictError: requests are using it, and `force` is not set.
        """
        model = self._models.get(name)
        if model is None:
            await self.catalog.find(name)
            return False
        if model.busy and not force:
            raise ConflictError(
                f"{name} is answering {model.busy} requests", hint="wait for them, or unload with force=true"
            )
        await self._remove(model)
        return True

    async def close(self) -> None:
        """Unload everything."""
        self._closed = True
        removals = [self._remove(model) for model in self.models]
        await asyncio.gather(*removals, *self._background, return_exceptions=True)

    async def refresh_memory(self) -> None:
        """Measure what the loaded models use now."""
        for model in self.models:
            if model.engine is not None and model.state == READY:
                await self._measure(model, model.engine)

    async def _begin(self, name: str, *, autoload: bool) -> PooledModel:
        spec, size_mb = await self.catalog.find(name)
        await self.refresh_memory()  # the others may have grown since their load
        if model := self._models.get(name):  # another request was faster
            return model
        if self._closed:
            raise UnavailableError("the server is shutting down")
        if not autoload:
            raise ConflictError(
                f"{name} is not loaded", hint=f"POST /models/{name}/load, or set server.autoload=true"
            )
        model = PooledModel(
            name=name,
            spec=spec,
            size_mb=size_mb,
            pinned=name in self._config.pin,
            keep_alive_s=self._config.idle_timeout_s,
        )
        evicted = self._make_room(model)
        self._models[name] = model
        self._touch(model)
        model.loading = asyncio.create_task(self._run_load(model, evicted))
        model.loading.add_done_callback(_retrieved)
        return model

    async def _engine(self, model: PooledModel) -> EngineClient:
        if model.state == READY and model.engine is not None:
            return model.engine
        if (loading := model.loading) is not None:
            try:
                return await asyncio.shield(loading)
            except asyncio.CancelledError:
                if loading.cancelled():
                    raise UnavailableError(f"{model.name} was unloaded while it was loading") from None
                raise
        wait = max(0.0, model.retry_at - asyncio.get_running_loop().time())
        raise UnavailableError(
            f"{model.name} has ended unexpectedly {model.crashes} times and is started again in {wait:.0f} s",
            hint="try again then",
            retry_after_s=wait,
        )

    async def _run_load(self, model: PooledModel, evicted: list[PooledModel]) -> EngineClient:
        try:
            await asyncio.gather(*(self._remove(other) for other in evicted))
            engine = await self._load(model.spec, partial(_set_fraction, model))
            try:
                await self._admit(model, engine)
            except BaseException:
                await engine.close()
                raise
        except BaseException:
            model.loading = None
            if not model.crashes:
                self._forget(model)
            raise
        model.loading = None
        return engine

    async def _admit(self, model: PooledModel, engine: EngineClient) -> None:
        """Add a loaded engine, with the memory that it really uses."""
        await self._measure(model, engine)
        evicted = self._make_room(model)
        model.engine = engine
        engine.on_lost = partial(self._lost, model, engine)
        model.state, model.fraction = READY, 1.0
        model.loaded_at, model.ready_at = time.time(), asyncio.get_running_loop().time()
        log.info("%s is loaded, %.0f MB", model.name, model.memory_mb)
        for other in evicted:
            self._in_background(self._remove(other))
        self._touch(model)

    async def _measure(self, model: PooledModel, engine: EngineClient) -> None:
        use = await engine.memory()
        model.memory_mb = use.rss_mb + use.gpu_mb

    def _make_room(self, model: PooledModel) -> list[PooledModel]:
        """The idle models that are evicted for `model`. They leave the pool at once. Raises DoesNotFitError."""
        evicted = to_evict(model, [other for other in self.models if other is not model], self._config)
        for other in evicted:
            self._forget(other)
        return evicted

    def _watch_growth(self) -> None:
        """Measure from time to time: a model uses more after its first requests than after its load."""
        now = asyncio.get_running_loop().time()
        if now - self._measured_at >= MEASURE_S and not self._closed:
            self._measured_at = now
            self._in_background(self._shed())

    async def _shed(self) -> None:
        """Unload what exceeds the limit, but never the model that was used last."""
        await self.refresh_memory()
        evicted = too_many(self.models, self._config)
        for model in evicted:
            log.info("%s is unloaded: the models have grown beyond server.max_memory_mb", model.name)
            self._forget(model)
        await asyncio.gather(*(self._remove(model) for model in evicted))

    def _touch(self, model: PooledModel) -> None:
        """Record a use, and start the timer of an idle model."""
        self._uses += 1
        model.used = self._uses
        model.last_used = time.time()
        if model.timer is not None:
            model.timer.cancel()
            model.timer = None
        idle = model.state == READY and not model.busy and self._models.get(model.name) is model
        if model.keep_alive_s is None or not idle:
            return
        loop = asyncio.get_running_loop()
        model.timer = loop.call_later(model.keep_alive_s, self._expire, model)

    def _expire(self, model: PooledModel) -> None:
        if not model.busy and self._models.get(model.name) is model and not model.pinned:
            log.info("%s was idle for %g s and is unloaded", model.name, model.keep_alive_s)
            self._forget(model)
            self._in_background(self._remove(model))

    def _forget(self, model: PooledModel) -> None:
        if self._models.get(model.name) is model:
            del self._models[model.name]
        if model.timer is not None:
            model.timer.cancel()

    async def _remove(self, model: PooledModel) -> None:
        """Remove the model from the pool and end its process."""
        self._forget(model)
        if restart := self._restarts.pop(model, None):
            restart.cancel()
        if model.loading is not None:
            model.loading.cancel()
            with contextlib.suppress(asyncio.CancelledError, LqmfError):
                await model.loading
        if model.engine is not None:
            engine, model.engine = model.engine, None
            await engine.close()

    def _in_background(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _lost(self, model: PooledModel, engine: EngineClient, error: LqmfError) -> None:
        """Start an engine again that died. Its requests have failed by themselves."""
        if self._models.get(model.name) is not model or model.engine is not engine or self._closed:
            return
        log.error("%s", error.message)
        if asyncio.get_running_loop().time() - model.ready_at > STABLE_S:
            model.crashes = 0
        model.engine = None
        self._in_background(engine.close())
        self._restarting(model)
        self._restarts[model] = asyncio.create_task(self._restart(model, self._load_again(model)))

    def _restarting(self, model: PooledModel) -> float:
        """Record a crash. Returns the seconds to wait before the next try; the first try is immediate."""
        model.crashes += 1
        model.state, model.fraction, model.memory_mb = RESTARTING, 0.0, 0.0
        wait = 0.0 if model.crashes == 1 else min(FIRST_RETRY_S * 2 ** (model.crashes - 2), LONGEST_RETRY_S)
        model.retry_at = asyncio.get_running_loop().time() + wait
        return wait

    def _load_again(self, model: PooledModel) -> asyncio.Task[EngineClient]:
        model.loading = asyncio.create_task(self._run_load(model, []))
        model.loading.add_done_callback(_retrieved)
        return model.loading

    async def _restart(self, model: PooledModel, loading: asyncio.Task[EngineClient]) -> None:
        """Try to load it again, after growing delays."""
        while True:
            try:
                await asyncio.shield(loading)
                break
            except Exception as error:
                log.error("%s could not be started again: %s", model.name, error)
            await asyncio.sleep(self._restarting(model))
            loading = self._load_again(model)
        self._restarts.pop(model, None)


def _set_fraction(model: PooledModel, fraction: float) -> None:
    model.fraction = fraction


def _retrieved(task: asyncio.Task[EngineClient]) -> None:
    """Mark the error of a load as seen. Requests that wait for the load get it; there may be none."""
    if not task.cancelled():
        task.exception()
