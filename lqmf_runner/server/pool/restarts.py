"""Models whose engine has died are loaded again, after growing delays."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ...engine import EngineClient
from ...errors import UnavailableError
from .pooled_model import PooledModel

log = logging.getLogger(__name__)


class Restarts:
    """The restarts that are under way.

    Args:
        start_load: begins a load of a model and returns its task.
    """

    def __init__(self, start_load: Callable[[PooledModel], asyncio.Task[EngineClient]]) -> None:
        self._start_load = start_load
        self._tasks: dict[PooledModel, asyncio.Task[None]] = {}

    def begin(self, model: PooledModel) -> None:
        """Load a model again whose engine is lost. The first try is immediate."""
        model.crashed(asyncio.get_running_loop().time())
        self._tasks[model] = asyncio.create_task(self._retry(model, self._start_load(model)))

    def cancel(self, model: PooledModel) -> None:
        """Stop the restarts of a model. It is no error if there are none."""
        if task := self._tasks.pop(model, None):
            task.cancel()

    async def _retry(self, model: PooledModel, loading: asyncio.Task[EngineClient]) -> None:
        while True:
            try:
                await asyncio.shield(loading)
                break
            except Exception as error:
                log.error("%s could not be started again: %s", model.name, error)
            await asyncio.sleep(model.crashed(asyncio.get_running_loop().time()))
            loading = self._start_load(model)
        self._tasks.pop(model, None)


def between_tries(model: PooledModel) -> UnavailableError:
    """The error of a request for a model that waits for its next try."""
    wait = max(0.0, model.retry_at - asyncio.get_running_loop().time())
    return UnavailableError(
        f"{model.name} has ended unexpectedly {model.crashes} times and is started again in {wait:.0f} s",
        hint="try again then",
        retry_after_s=wait,
    )
