"""Which models may be loaded together, within a number and an amount of memory, and which are evicted."""

from __future__ import annotations

from collections.abc import Sequence

from ...config import ServerConfig
from ...errors import DoesNotFitError
from .pooled_model import PooledModel


def to_evict(model: PooledModel, others: Sequence[PooledModel], limits: ServerConfig) -> list[PooledModel]:
    """The idle models that are evicted for `model`, chosen from the longest unused on; the result is in no order.

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
        total = model.needs_mb + sum(other.needs_mb for other in left)
        return len(left) < limits.max_models and total <= limits.max_memory_mb

    while not fits():
        if not idle:
            raise _no_room(model, others, limits)
        chosen.append(idle.pop(0))
    # Evicting a larger model may make it unnecessary to evict the longest unused.
    for other in chosen[:-1]:
        chosen.remove(other)
        if not fits():
            chosen.append(other)
    return chosen


def too_many(models: Sequence[PooledModel], limits: ServerConfig) -> list[PooledModel]:
    """The idle models that are evicted because all together have grown too large, the longest unused first.

    The one that was used last stays: what does not fit alone would be loaded again by the next request.
    """
    excess = sum(model.needs_mb for model in models) - limits.max_memory_mb
    chosen = []
    for model in sorted(models, key=lambda model: model.used)[:-1]:
        if excess > 0 and model.evictable:
            chosen.append(model)
            excess -= model.needs_mb
    return chosen


def _no_room(model: PooledModel, others: Sequence[PooledModel], limits: ServerConfig) -> DoesNotFitError:
    kept = [other for other in others if not other.evictable]
    in_use = sum(other.needs_mb for other in kept)
    limit = limits.max_memory_mb
    names = ", ".join(f"{other.name} ({other.needs_mb:.0f} MB)" for other in kept)
    held = f"; in use or pinned: {names}" if kept else ""
    if model.needs_mb + in_use > limit:
        about = "uses" if model.memory_mb else "needs about"
        text = f"{model.name} {about} {model.needs_mb:.0f} MB, and {limit - in_use:.0f} of {limit:.0f} MB are free"
        hint = "unload a model, or raise server.max_memory_mb"
    else:
        text = f"{model.name} would be one more than {limits.max_models} loaded models"
        hint = "unload a model, or raise server.max_models"
    soon = 1.0 if any(other.busy for other in kept) else None
    return DoesNotFitError(text + held, hint=hint, retry_after_s=soon)
