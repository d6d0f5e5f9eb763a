"""`ModelPool`: the loaded models, within a number and an amount of memory.

Everything runs on one event loop; what changes state does so without awaiting in between. A load is one task that all
who want the model wait for, and it goes on when one of them leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from ..config import ServerConfig
from ..engine import EngineClient, load_engine
from ..errors import ConflictError, DoesNotFitError, LqmfError, UnavailableError
from ..types import ModelSpec, Usage
from .catalog import Catalog

log = logging.getLogger(__name__)

Loader = Callable[[ModelSpec, Callable[[float], None] | None], Awaitable[EngineClient]]

LOADING, READY, RESTARTING, FAILED = "loading", "ready", "restarting", "failed"
FIRST_RETRY_S, LONGEST_RETRY_S, STABLE_S = 1.0, 60.0, 60.0
# What a worker needs beside its weights: the runtime, the KV cache and the work space, MB by format.
_OVERHEAD_MB = {"gguf": 150.0, "openai": 0.0}
_DEFAULT_OVERHEAD_MB = 700.0


@dataclass(eq=False)
class PooledModel:
    """A model that is loaded, being loaded, or to be loaded again after a crash.

    Attributes:
        size_mb: its weights; with an overhead, what it is taken to need until it is in.
        busy: requests that hold it.
        keep_alive_s: unload it when it was idle for so long; None keeps it.
        crashes: in a row, without a stable time in between.
        token_texts: of single tokens, as far as they were asked for.
        retry_at: the loop's time of the next try after a crash.
    """

    name: str
    spec: ModelSpec
    size_mb: float
    pinned: bool
    keep_alive_s: float | None
    state: str = LOADING
    fraction: float = 0.0
    engine: EngineClient | None = None
    memory_mb: float = 0.0
    busy: int = 0
    loaded_at: float = 0.0
    ready_at: float = 0.0
    last_used: float = field(default_factory=time.time)
    used: int = 0  # order of use, for LRU
    requests: int = 0
    tokens: int = 0
    decode_tokens: int = 0
    decode_s: float = 0.0
    crashes: int = 0
    retry_at: float = 0.0
    error: LqmfError | None = None
    loading: asyncio.Task[EngineClient] | None = None
    timer: asyncio.TimerHandle | None = None
    token_texts: dict[int, str] = field(default_factory=dict)

    @property
    def needs_mb(self) -> float:
        """What it counts for: as measured, or as estimated while it is not in."""
        if self.memory_mb:
            return self.memory_mb
        return self.size_mb * 1.1 + _OVERHEAD_MB.get(self.spec.format, _DEFAULT_OVERHEAD_MB)

    @property
    def tokens_per_second(self) -> float:
        """Tokens after the first by the time they took, over all requests."""
        return self.decode_tokens / self.decode_s if self.decode_s else 0.0

    def keep(self, keep_alive_s: float | None) -> None:
        """Change how long it is kept when idle; negative is for ever, None leaves it as it is."""
        if keep_alive_s is not None:
            self.keep_alive_s = keep_alive_s if keep_alive_s >= 0 else None

    def count(self, usage: Usage) -> None:
        """Add a finished request to the figures."""
        self.tokens += usage.completion_tokens
        self.decode_tokens += max(0, usage.completion_tokens - 1)
        self.decode_s += usage.decode_s


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
        self._closings: set[asyncio.Task[None]] = set()
        self._restarts: dict[PooledModel, asyncio.Task[None]] = {}
        self._uses = 0
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
        """What all of them count for."""
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
        await asyncio.gather(*removals, *self._closings, return_exceptions=True)

    async def refresh_memory(self) -> None:
        """Measure what the loaded models use now."""
        for model in self.models:
            if model.engine is not None and model.state == READY:
                await self._measure(model, model.engine)

    async def _begin(self, name: str, *, autoload: bool) -> PooledModel:
        spec, size_mb = await self.catalog.find(name)
        if model := self._models.get(name):  # somebody else was faster
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
        error = UnavailableError(
            f"{model.name} has ended unexpectedly {model.crashes} times and is started again in {wait:.0f} s",
            hint="try again then",
        )
        error.retry_after_s = wait
        raise error

    async def _run_load(self, model: PooledModel, evicted: list[PooledModel]) -> EngineClient:
        try:
            await asyncio.gather(*(self._remove(other) for other in evicted))
            engine = await self._load(model.spec, partial(_set_fraction, model))
            try:
                await self._admit(model, engine)
            except BaseException:
                await engine.close()
                raise
        except BaseException as error:
            model.loading = None
            model.error = error if isinstance(error, LqmfError) else None
            if not model.crashes:
                self._forget(model)
            raise
        model.loading = None
        return engine

    async def _admit(self, model: PooledModel, engine: EngineClient) -> None:
        """Take a loaded engine in, at what it really uses."""
        await self._measure(model, engine)
        evicted = self._make_room(model)
        model.engine = engine
        engine.on_lost = partial(self._lost, model, engine)
        model.state, model.fraction, model.error = READY, 1.0, None
        model.loaded_at, model.ready_at = time.time(), asyncio.get_running_loop().time()
        log.info("%s is loaded, %.0f MB", model.name, model.memory_mb)
        for other in evicted:
            self._close_later(self._remove(other))
        self._touch(model)

    async def _measure(self, model: PooledModel, engine: EngineClient) -> None:
        use = await engine.memory()
        model.memory_mb = use.rss_mb + use.gpu_mb

    def _make_room(self, model: PooledModel) -> list[PooledModel]:
        """The idle models that must go for `model`, the longest unused first; they are out of the pool at once.

        Raises:
            DoesNotFitError: even without all of them there is no room.
        """
        others = [other for other in self.models if other is not model]
        idle = sorted((m for m in others if self._evictable(m)), key=lambda m: m.used)
        chosen: list[PooledModel] = []

        def fits() -> bool:
            left = [other for other in others if other not in chosen]
            total = model.needs_mb + sum(other.needs_mb for other in left)
            return len(left) < self._config.max_models and total <= self._config.max_memory_mb

        while not fits():
            if not idle:
                raise self._no_room(model, others)
            chosen.append(idle.pop(0))
        # The longest unused may turn out not to be needed, once a larger one is out.
        for other in chosen[:-1]:
            chosen.remove(other)
            if not fits():
                chosen.append(other)
        for other in chosen:
            self._forget(other)
        return chosen

    def _evictable(self, model: PooledModel) -> bool:
        return model.state == READY and not model.busy and not model.pinned

    def _no_room(self, model: PooledModel, others: list[PooledModel]) -> DoesNotFitError:
        kept = [other for other in others if not self._evictable(other)]
        in_use = sum(other.needs_mb for other in kept)
        limit = self._config.max_memory_mb
        names = ", ".join(f"{other.name} ({other.needs_mb:.0f} MB)" for other in kept)
        held = f"; in use or pinned: {names}" if kept else ""
        if model.needs_mb + in_use > limit:
            about = "uses" if model.memory_mb else "needs about"
            text = f"{model.name} {about} {model.needs_mb:.0f} MB, and {limit - in_use:.0f} of {limit:.0f} MB are free"
            hint = "unload a model, or raise server.max_memory_mb"
        else:
            text = f"{model.name} would be one more than {self._config.max_models} loaded models"
            hint = "unload a model, or raise server.max_models"
        error = DoesNotFitError(text + held, hint=hint)
        if any(other.busy for other in kept):
            error.retry_after_s = 1.0
        return error

    def _touch(self, model: PooledModel) -> None:
        """Note a use, and start the clock of an idle model."""
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
            self._close_later(self._remove(model))

    def _forget(self, model: PooledModel) -> None:
        if self._models.get(model.name) is model:
            del self._models[model.name]
        if model.timer is not None:
            model.timer.cancel()

    async def _remove(self, model: PooledModel) -> None:
        """Out of the pool, and its process ended."""
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

    def _close_later(self, closing: Awaitable[None]) -> None:
        task = asyncio.ensure_future(closing)
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)

    def _lost(self, model: PooledModel, engine: EngineClient, error: LqmfError) -> None:
        """The engine has died: its requests have failed by themselves; start it again."""
        if self._models.get(model.name) is not model or model.engine is not engine or self._closed:
            return
        log.error("%s", error.message)
        if asyncio.get_running_loop().time() - model.ready_at > STABLE_S:
            model.crashes = 0
        model.engine, model.error = None, error
        self._close_later(engine.close())
        self._restarting(model)
        self._restarts[model] = asyncio.create_task(self._restart(model, self._load_again(model)))

    def _restarting(self, model: PooledModel) -> float:
        """Note a crash; the seconds to wait before the next try. The first is at once."""
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
        """See to it that it is loaded again, after longer and longer waits."""
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
    """Whoever waits for a load gets its error; if nobody does, that is fine."""
    if not task.cancelled():
        task.exception()
