"""The memory of the loaded models, measured regularly, because a model uses more after its first requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from ...config import ServerConfig
from .admission import caches_to_shrink, too_many
from .pooled_model import READY, PooledModel

log = logging.getLogger(__name__)

MEASURE_S = 5.0  # the shortest time between two measurements that requests cause


class Growth:
    """Measures the models, and unloads what has grown beyond the limit.

    Args:
        models: gives those in the pool.
        limits: `max_memory_mb`.
        evict: takes one out of the pool at once, and returns what ends it.
    """

    def __init__(
        self,
        models: Callable[[], Sequence[PooledModel]],
        limits: ServerConfig,
        evict: Callable[[PooledModel], Awaitable[None]],
    ) -> None:
        self._models = models
        self._limits = limits
        self._evict = evict
        self._measured_at = -MEASURE_S

    def due(self) -> bool:
        """Whether it is time to measure again; then the next time is later."""
        now = asyncio.get_running_loop().time()
        due = now - self._measured_at >= MEASURE_S
        if due:
            self._measured_at = now
        return due

    async def measure(self) -> None:
        """Measure what the loaded models use now."""
        for model in self._models():
            if model.engine is not None and model.state == READY:
                await model.measure(model.engine)

    async def shed(self) -> None:
        """Unload models until the limit is met, but never the one that was used last."""
        await self.measure()
        await self.shrink_caches(self._models())
        evicted = too_many(self._models(), self._limits)
        for model in evicted:
            log.info("%s is unloaded: the models have grown beyond server.max_memory_mb", model.name)
        await asyncio.gather(*[self._evict(model) for model in evicted])

    async def shrink_caches(self, models: Sequence[PooledModel]) -> None:
        """Let prompts in main memory give way, of the models that are in the pool and one that comes."""
        for model, mb in caches_to_shrink(models, self._limits):
            if model.engine is not None:
                model.memory_mb -= model.prompt_cache.mb - mb  # until it is measured again
                await model.engine.shrink_prompt_cache(mb)
