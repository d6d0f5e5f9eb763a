"""`ModelPool`: the loaded models, limited in number and memory.

Everything runs on one event loop, and state changes without an await in between. A load is one task. All requests for
the model wait for it, and it continues when one of them is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any

from ...config import ServerConfig
from ...engine import EngineClient, load_engine
from ...engine.replicas.fleet import check_last_wish
from ...errors import ConflictError, LqmfError, UnavailableError
from ...types import ModelSpec
from .admission import load_with_room, to_evict
from .catalog import Catalog, identity
from .growth import Growth
from .pooled_model import READY, LoadedName, PooledModel
from .restarts import Restarts, between_tries
from .scaling import check_count, follow, follows, load_replicas, present, room_mb, spec_with_replicas

log = logging.getLogger(__name__)

Loader = Callable[[ModelSpec, Callable[[float], None] | None], Awaitable[EngineClient]]


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
        self._restarts = Restarts(self._start_load)
        self._uses = 0
        self._growth = Growth(lambda: self.models, config, self._remove)
        self._closed = False

    @property
    def models(self) -> list[PooledModel]:
        """All that are loaded or being loaded, each once."""
        return list(dict.fromkeys(self._models.values()))

    @property
    def names(self) -> list[LoadedName]:
        """The names under which they are loaded."""
        return [LoadedName(name, model) for name, model in self._models.items()]

    def get(self, name: str) -> PooledModel | None:
        """The model if it is loaded or being loaded."""
        return self._models.get(name)

    @property
    def memory_mb(self) -> float:
        """The memory that all of them count for on this machine."""
        return sum(model.needs_mb for model in self.models if model.is_here)

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
            with model.used_by_request(engine, lambda: self._in_background(engine.close())):
                yield model, engine
        finally:
            model.busy -= 1
            self._touch(model)
            if not self._closed and self._growth.due():
                self._in_background(self._growth.shed())

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

        The memory stays in use while the model answers to another name.

        Raises:
            ModelNotFoundError: there is no such model.
            ConflictError: requests are using it, and `force` is not set.
        """
        model = self._models.get(name)
        if model is None:
            await self.catalog.find(name)
            return False
        if self._drop_name(model, name):
            return True
        if model.busy and not force:
            raise ConflictError(
                f"{name} is answering {model.busy} requests", hint="wait for them, or unload with force=true"
            )
        await self._remove(model)
        return True

    def retire(self, name: str) -> None:
        """Unload a model when its last request has ended. One that is not loaded is no error.

        It stays loaded while it answers to another name.
        """
        model = self._models.get(name)
        if model is None or self._drop_name(model, name):
            return
        model.pinned = False
        model.keep(0.0)
        self._touch(model)

    async def scale(self, name: str, count: int) -> PooledModel:
        """Give a model so many replicas, loading it first if need be; returns when the new ones answer.

        No request is dropped: replicas that go answer theirs first. A single worker, which computes on all cores, is
        replaced by workers that have a share of them each.

        Raises:
            ConflictError: it cannot have so many, or another number was asked for meanwhile.
            DoesNotFitError: there is no room for them.
            LqmfError: as of `load`, or what a start failed with; the replicas are then those that there were.
        """
        model = await self.load(name)
        with self.keeping([model]):
            engine = await self._engine(model)
            check_count(model, count)
            model.want(count)
            if engine.replicas() and count < present(engine):
                await engine.scale(count)  # which needs no room, and does not wait for starts
                await self._scaled(model, count)
                return model
            async with model.scaling:
                check_last_wish(model.name, count, model.wish)
                await self._scale(model, count)
        return model

    @contextlib.contextmanager
    def keeping(self, models: Sequence[PooledModel]) -> Iterator[None]:
        """Nothing unloads these for being idle, or to make room, before the block ends."""
        for model in models:
            model.kept += 1
        try:
            yield
        finally:
            for model in models:
                model.kept -= 1
                self._touch(model)

    async def close(self) -> None:
        """Unload everything."""
        self._closed = True
        await asyncio.gather(*map(self._remove, self.models), *self._background, return_exceptions=True)

    async def refresh_memory(self) -> None:
        """Measure what the loaded models use now."""
        await self._growth.measure()

    async def _begin(self, name: str, *, autoload: bool) -> PooledModel:
        spec, size_mb = await self.catalog.find(name)
        same = identity(spec)
        await self.refresh_memory()  # the others may have grown since their load
        if model := self._models.get(name):  # another request was faster
            return model
        if self._closed:
            raise UnavailableError("the server is shutting down")
        if not autoload:
            raise ConflictError(
                f"{name} is not loaded", hint=f"POST /models/{name}/load, or set server.autoload=true"
            )
        if model := next((m for m in self.models if same is not None and m.identity == same), None):
            log.info("%s is %s, which is loaded", name, model.name)
            model.aliases.append(name)
            model.pinned = model.pinned or name in self._config.pin
            self._models[name] = model
            return model
        model = PooledModel(
            name=name,
            spec=spec,
            identity=same,
            size_mb=size_mb,
            pinned=name in self._config.pin,
            keep_alive_s=self._config.idle_timeout_s,
        )
        evicted = self._make_room(model)
        log.info("loading %s", name)
        self._models[name] = model
        self._touch(model)
        self._start_load(model, evicted)
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
        if self._models.get(model.name) is not model:
            raise UnavailableError(f"{model.name} was unloaded", hint="load it again")
        raise between_tries(model)

    async def _run_load(self, model: PooledModel, evicted: Sequence[PooledModel]) -> EngineClient:
        try:
            await asyncio.gather(*(self._remove(other) for other in evicted))
            engine = await load_with_room(
                lambda: self._load(model.spec, model.set_fraction), lambda: self.models, self._remove
            )
            try:
                await self._admit(model, engine)
            except BaseException:
                await engine.close()
                raise
        except BaseException as error:
            if isinstance(error, LqmfError):
                log.info("%s could not be loaded: %s", model.name, error.message)
            model.loading = None
            if not model.crashes:
                self._forget(model)
            raise
        model.loading = None
        return engine

    async def _admit(self, model: PooledModel, engine: EngineClient) -> None:
        """Add a loaded engine, with the memory that it really uses."""
        await model.measure(engine)
        evicted = self._make_room(model)
        model.engine = engine
        engine.on_lost = partial(self._lost, model, engine)
        model.state, model.fraction = READY, 1.0
        model.loaded_at, model.ready_at = time.time(), asyncio.get_running_loop().time()
        if follows(model) and model.following is None:
            model.following = asyncio.create_task(follow(model, lambda count: self.scale(model.name, count)))
        log.info("%s is loaded, %.0f MB", model.name, model.memory_mb)
        for other in evicted:
            self._remove(other)
        self._touch(model)

    async def _scale(self, model: PooledModel, count: int) -> None:
        engine = await self._engine(model)
        try:
            model.starting_mb = room_mb(model, engine, count)
            await asyncio.gather(*(self._remove(other) for other in self._make_room(model)))
            if engine.replicas():
                await engine.scale(count)
            elif count > 1:
                await self._replace(model, engine, count)
        finally:
            model.starting_mb = 0.0
        await self._scaled(model, count)

    async def _scaled(self, model: PooledModel, count: int) -> None:
        model.spec = spec_with_replicas(model.spec, count)
        await self.refresh_memory()

    async def _replace(self, model: PooledModel, old: EngineClient, count: int) -> None:
        """Load the model as `count` replicas. They take the place of its worker, which ends when nobody uses it."""
        new = await load_replicas(model, lambda spec: self._load(spec, None), count)
        if model.engine is not old:
            await new.close()
            raise UnavailableError(f"{model.name} has ended while its replicas were started")
        model.engine = new
        new.on_lost = partial(self._lost, model, new)
        if model.using[old]:
            model.replaced.add(old)
        else:
            self._in_background(old.close())

    def _make_room(self, model: PooledModel) -> list[PooledModel]:
        """The idle models that are evicted for `model`. They leave the pool at once. Raises DoesNotFitError."""
        evicted = to_evict(model, [other for other in self.models if other is not model], self._config)
        for other in evicted:
            self._forget(other)
        self._in_background(self._growth.shrink_caches([model, *(m for m in self.models if m is not model)]))
        return evicted

    def _touch(self, model: PooledModel) -> None:
        """Record a use, and start the timer of an idle model."""
        self._uses += 1
        model.used = self._uses
        model.last_used = time.time()
        if model.timer is not None:
            model.timer.cancel()
            model.timer = None
        idle = model.state == READY and not model.busy and self._models.get(model.name) is model
        if model.keep_alive_s is not None and idle:
            loop = asyncio.get_running_loop()
            model.timer = loop.call_later(model.keep_alive_s, self._expire, model)

    def _expire(self, model: PooledModel) -> None:
        if model.evictable and self._models.get(model.name) is model:
            log.info("%s was idle for %g s and is unloaded", model.name, model.keep_alive_s)
            self._remove(model)

    def _forget(self, model: PooledModel) -> None:
        for name in model.names:
            if self._models.get(name) is model:
                del self._models[name]
        if model.timer is not None:
            model.timer.cancel()

    def _drop_name(self, model: PooledModel, name: str) -> bool:
        """Let the model answer to this name no more; False if it is its only one."""
        if model.aliases:
            model.drop_name(name)
            del self._models[name]
        return name not in self._models

    def _remove(self, model: PooledModel) -> Awaitable[None]:
        """Remove the model from the pool at once, and end its process, whether or not that is waited for."""
        self._forget(model)
        return asyncio.shield(self._in_background(self._end(model)))

    async def _end(self, model: PooledModel) -> None:
        self._restarts.cancel(model)
        if model.following is not None:
            model.following.cancel()
        if model.loading is not None:
            model.loading.cancel()
            with contextlib.suppress(asyncio.CancelledError, LqmfError):
                await model.loading
        engines = [*model.replaced, *([model.engine] if model.engine is not None else [])]
        model.engine = None
        model.replaced.clear()
        await asyncio.gather(*(engine.close() for engine in engines))
        if engines:
            log.info("%s is unloaded", model.name)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def _lost(self, model: PooledModel, engine: EngineClient, error: LqmfError) -> None:
        """Start an engine again that died. Its requests have failed by themselves."""
        if self._models.get(model.name) is not model or model.engine is not engine or self._closed:
            return
        log.error("%s", error.message)
        model.engine = None
        self._in_background(engine.close())
        self._restarts.begin(model)

    def _start_load(
        self, model: PooledModel, evicted: Sequence[PooledModel] = ()
    ) -> asyncio.Task[EngineClient]:
        model.loading = asyncio.create_task(self._run_load(model, evicted))
        # Requests that wait for the load get its error. There may be none, so mark it as seen.
        model.loading.add_done_callback(lambda task: task.cancelled() or task.exception())
        return model.loading
