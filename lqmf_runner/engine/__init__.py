"""The engine core: load a model in any format, then generate and score through one client interface."""

from __future__ import annotations

from collections.abc import Callable

from ..formats import find_format, get_format, load_target
from ..types import ModelSpec
from .client import EngineClient

__all__ = ["EngineClient", "load_engine"]


async def load_engine(spec: ModelSpec, on_progress: Callable[[float], None] | None = None) -> EngineClient:
    """Load a located model and return when it is ready: as worker processes, or as the client of remote endpoints.

    Args:
        on_progress: takes the share of the load that is done, 0 to 1.

    Raises:
        LqmfError: the load failed; nothing is left running.
    """
    format = find_format(spec.format)
    if format is not None and format.remote and format.program is None:
        engine: EngineClient = await load_target(format.client).connect(spec)
        return engine
    start = _start_worker if format is None or format.program is None else _start_program
    if spec.placement.most_replicas == 1:
        return await start(spec, on_progress)
    from .replicas.replica_set import ReplicaSet
    from .replicas.sources import Workers

    workers = Workers(spec, start)
    return await ReplicaSet.start(spec.name, workers, spec.placement.replicas, on_progress)


async def _start_program(spec: ModelSpec, on_progress: Callable[[float], None] | None) -> EngineClient:
    """Start the program that serves the model, wherever the spec places it."""
    engine: EngineClient = await load_target(get_format(spec.format).client).connect(spec, on_progress)
    return engine


async def _start_worker(spec: ModelSpec, on_progress: Callable[[float], None] | None) -> EngineClient:
    """Start one worker, wherever the spec places it."""
    if spec.placement.cluster is not None:
        from .placement import PlacedEngine

        return await PlacedEngine.start(spec, on_progress)
    from .local import LocalEngine

    return await LocalEngine.start(spec, on_progress)
