"""Which models may be loaded together, within a number and an amount of memory, and which are evicted.

The prompts that engines keep in main memory count, but they give way before a model is evicted or refused. Memory is
that of this machine: models on the nodes of a cluster need room there, and the longest unused make it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from ...config import ServerConfig
from ...engine import EngineClient
from ...errors import DoesNotFitError, NoRoomOnNodesError
from .pooled_model import PooledModel


def to_evict(model: PooledModel, others: Sequence[PooledModel], limits: ServerConfig) -> list[PooledModel]:
    """The idle models to evict for `model`, chosen from the least recently used on. The result is in no order.

    Args:
        others: all that are in the pool beside it.
        limits: `max_models` and `max_memory_mb`.

    Raises:
        DoesNotFitError: even without all of them there is no room.
    """
    idle = sorted((other for other in others if other.evictable), key=lambda other: other.used)
    chosen: list[PooledModel] = []

    def fits() -> bool:
        left = [other for other in others if other not in chosen]
        total = model.lasting_mb + sum(other.lasting_mb for other in left)
        return len(left) < limits.max_models and total <= limits.max_memory_mb

    while not fits():
        if not idle:
            raise _no_room(model, others, limits)
        chosen.append(idle.pop(0))
    # Evicting a larger model may make it unnecessary to evict the least recently used one.
    for other in chosen[:-1]:
        chosen.remove(other)
        if not fits():
            chosen.append(other)
    return chosen


def too_many(models: Sequence[PooledModel], limits: ServerConfig) -> list[PooledModel]:
    """The idle models to evict because all together have grown too large, the least recently used first.

    The one that was used last stays: what does not fit alone would be loaded again by the next request.
    """
    excess = sum(model.lasting_mb for model in models) - limits.max_memory_mb
    chosen = []
    for model in sorted(models, key=lambda model: model.used)[:-1]:
        if excess > 0 and model.evictable and model.is_here:
            chosen.append(model)
            excess -= model.lasting_mb
    return chosen


def caches_to_shrink(models: Sequence[PooledModel], limits: ServerConfig) -> list[tuple[PooledModel, float]]:
    """The models whose prompts in main memory give way to other memory, and how many MB of them may stay.

    The model that was unused longest gives first.
    """
    here = [model for model in models if model.is_here]
    excess = sum(model.needs_mb for model in here) - limits.max_memory_mb
    chosen = []
    for model in sorted(here, key=lambda model: model.used):
        if excess > 0 and (cut := min(model.prompt_cache.mb, excess)):
            chosen.append((model, model.prompt_cache.mb - cut))
            excess -= cut
    return chosen


async def load_with_room(
    load: Callable[[], Awaitable[EngineClient]],
    models: Callable[[], Iterable[PooledModel]],
    evict: Callable[[PooledModel], Awaitable[None]],
) -> EngineClient:
    """The result of `load`. While no node has room, the least recently used idle model there is evicted.

    Args:
        models: all that are in the pool.
        evict: ends one.

    Raises:
        NoRoomOnNodesError: there is no room even without them.
    """
    while True:
        try:
            return await load()
        except NoRoomOnNodesError:
            idle = [model for model in models() if model.placed and model.evictable]
            if not idle:
                raise
            await evict(min(idle, key=lambda model: model.used))


def _no_room(model: PooledModel, others: Sequence[PooledModel], limits: ServerConfig) -> DoesNotFitError:
    kept = [other for other in others if not other.evictable]
    in_use = sum(other.lasting_mb for other in kept)
    limit = limits.max_memory_mb
    names = ", ".join(f"{other.name} ({other.lasting_mb:.0f} MB)" for other in kept)
    held = f"; in use or pinned: {names}" if kept else ""
    if model.lasting_mb + in_use > limit:
        about = "uses" if model.memory_mb and not model.starting_mb else "needs about"
        text = f"{model.name} {about} {model.lasting_mb:.0f} MB, and {limit - in_use:.0f} of {limit:.0f} MB are free"
        hint = f"{'choose fewer replicas, ' if model.starting_mb else ''}unload a model, or raise server.max_memory_mb"
    else:
        text = f"{model.name} would be one more than {limits.max_models} loaded models"
        hint = "unload a model, or raise server.max_models"
    soon = 1.0 if any(other.busy for other in kept) else None
    return DoesNotFitError(text + held, hint=hint, retry_after_s=soon)
