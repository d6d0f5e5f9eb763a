"""The engine core: load a model in any format, then generate and score through one client interface."""

from __future__ import annotations

from collections.abc import Callable

from ..formats import find_format, load_target
from ..types import ModelSpec
from .client import EngineClient

__all__ = ["EngineClient", "load_engine"]


async def load_engine(spec: ModelSpec, on_progress: Callable[[float], None] | None = None) -> EngineClient:
    """Load a located model and return when it answers: a worker process, or the client of a remote endpoint.

    Args:
        on_progress: takes the share of the load that is done, 0 to 1.

    Raises:
        LqmfError: the load failed; nothing is left running.
    """
    format = find_format(spec.format)
    if format is not None and format.remote:
        engine: EngineClient = await load_target(format.client).connect(spec)
        return engine
    from .local import LocalEngine

    return await LocalEngine.start(spec, on_progress)
