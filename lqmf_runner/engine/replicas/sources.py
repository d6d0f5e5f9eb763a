"""Where the engines of a `Fleet` come from. `endpoints.py` has the other source."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from ...cgroup import usable_cores
from ...types import ModelSpec
from ..client import EngineClient

Progress = Callable[[float], None] | None
StartWorker = Callable[[ModelSpec, Progress], Awaitable[EngineClient]]


class Source(Protocol):
    """Starts the engines of a fleet."""

    @property
    def most(self) -> int | None:
        """How many there can be; None is any number."""

    @property
    def all_needed(self) -> bool:
        """Whether the model is of no use before all of its first replicas have started."""

    async def start(self, number: int, on_progress: Progress) -> EngineClient:
        """Start the engine of that number, from 0.

        Raises:
            UserInputError: trying again will not help.
            LqmfError: it did not start; nothing is left running.
        """


class Workers:
    """Workers that hold one model. Those on this machine never share cores, as long as there are enough of them.

    The cores are divided among the most that the placement plans for.

    Args:
        start: starts one of them.
    """

    most: int | None = None
    all_needed = True

    def __init__(self, spec: ModelSpec, start: StartWorker) -> None:
        self._spec = spec
        self._start = start

    async def start(self, number: int, on_progress: Progress) -> EngineClient:
        """See `Source`."""
        return await self._start(self._with_cores(number), on_progress)

    def _with_cores(self, number: int) -> ModelSpec:
        """The spec with a share of this machine's cores, unless `n_threads` says how many threads each takes."""
        placement = self._spec.placement
        if placement.kind != "local" or self._spec.options.get("n_threads") is not None:
            return self._spec
        cores = share_of_cores(
            sorted(os.sched_getaffinity(0))[: usable_cores()], placement.most_replicas, number
        )
        options = {**self._spec.options, "n_threads": len(cores), "cores": cores}
        return msgspec.structs.replace(self._spec, options=options)


def share_of_cores(cores: Sequence[int], planned: int, number: int) -> list[int]:
    """The cores of worker `number` of so many: shares of one size, which overlap only if there are too few cores."""
    size = max(1, len(cores) // planned)
    first = number * size
    return [cores[(first + i) % len(cores)] for i in range(size)]
