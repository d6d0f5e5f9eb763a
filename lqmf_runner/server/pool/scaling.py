"""More or fewer replicas of a loaded model: on request, and following the queue."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import msgspec

from ...engine import EngineClient
from ...engine.replicas.fleet import check_last_wish
from ...errors import ConflictError, LqmfError
from ...formats import is_endpoint
from ...types import ModelSpec
from .following import EVERY_S, Follower
from .pooled_model import READY, PooledModel

log = logging.getLogger(__name__)

_RETRY_S = 60.0  # after a replica did not start because of the queue


def check_count(model: PooledModel, count: int) -> None:
    """Refuse a number of replicas that the model cannot have.

    Raises:
        ConflictError: it is out of the placement's bounds, or the model is one endpoint.
    """
    placement = model.spec.placement
    low, high = placement.min_replicas, placement.max_replicas
    if (low is not None and count < low) or (high is not None and count > high):
        raise ConflictError(
            f"{model.name} has {low or 1} to {high or 'any number of'} replicas",
            hint="placement.min_replicas and placement.max_replicas set the bounds",
        )
    if is_endpoint(model.spec.format) and model.engine is not None and not model.engine.replicas():
        raise ConflictError(
            f"{model.name} is one endpoint", hint="model=pool spreads requests over several endpoints"
        )


def present(engine: EngineClient) -> int:
    """The number of replicas of an engine, without those that are draining."""
    return sum(replica.state != "draining" for replica in engine.replicas()) or 1


def room_mb(model: PooledModel, engine: EngineClient, count: int) -> float:
    """The memory that `count` replicas need beside that which is in use, by what the present ones use."""
    more = count - present(engine)
    new = count if more > 0 and not engine.replicas() else max(more, 0)  # a single worker is replaced
    return new * model.needs_mb / present(engine)


def spec_with_replicas(spec: ModelSpec, count: int) -> ModelSpec:
    """The spec of a load that starts so many."""
    return msgspec.structs.replace(spec, placement=msgspec.structs.replace(spec.placement, replicas=count))


async def load_replicas(
    model: PooledModel, load: Callable[[ModelSpec], Awaitable[EngineClient]], count: int
) -> EngineClient:
    """Load so many replicas beside the model's worker, as long as that is the number that is wanted.

    Raises:
        ConflictError: another number was asked for meanwhile.
        LqmfError: what the load failed with.
    """
    while True:
        loading = model.replacing = asyncio.ensure_future(load(spec_with_replicas(model.spec, count)))
        try:
            await asyncio.wait({loading})
        except asyncio.CancelledError:
            loading.cancel()
            with contextlib.suppress(asyncio.CancelledError, LqmfError):
                await (await loading).close()  # it was there at this moment
            raise
        finally:
            model.replacing = None
        if not loading.cancelled():
            return loading.result()
        check_last_wish(model.name, count, model.wish)


async def follow(model: PooledModel, scale: Callable[[int], Awaitable[object]]) -> None:
    """Keep the number of a model's replicas where its queue wants it; ends when the task is cancelled.

    Args:
        scale: changes the number.
    """
    placement, loop = model.spec.placement, asyncio.get_running_loop()
    low, high = placement.min_replicas or placement.replicas, placement.max_replicas or placement.replicas
    follower = Follower(low, high)
    while True:
        await asyncio.sleep(EVERY_S)
        engine = model.engine
        if engine is None or model.state != READY:
            continue
        states = engine.replicas()
        slots = engine.info.max_slots // max(1, sum(state.state == "ready" for state in states))
        running = max(sum(state.running for state in states), model.busy)
        now = present(engine)
        wanted = follower.wanted(loop.time(), now, running, slots)
        if wanted == now:
            continue
        log.info("%s has %d requests: %d replicas instead of %d", model.name, running, wanted, now)
        try:
            await scale(wanted)
        except LqmfError as error:
            log.warning("%s stays at %d replicas: %s", model.name, now, error.message)
            await asyncio.sleep(_RETRY_S)


def follows(model: PooledModel) -> bool:
    """Whether the number of the model's replicas follows its queue."""
    placement = model.spec.placement
    low, high = placement.min_replicas or placement.replicas, placement.max_replicas or placement.replicas
    return low < high and not is_endpoint(model.spec.format)
