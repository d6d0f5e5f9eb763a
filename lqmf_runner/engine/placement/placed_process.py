"""`PlacedProcess`: a worker on a node, behind the actor that has started it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import msgspec

from ...errors import EngineLostError
from ...models import inspect_model
from ...types import MemoryUse, ModelSpec
from ..process import WorkerProcess
from .delivery import deliver
from .host import Start, WorkerHost
from .placed_host import PlacedHost
from .port import WorkerPort

_EXIT_CODE_TIMEOUT_S, _MEMORY_TIMEOUT_S = 0.5, 2.0


class PlacedProcess(WorkerProcess):
    """A worker on the node of a host. Make it, `prepare` it, then `start` it; `close` it in any case."""

    pid = 0

    def __init__(self, host: PlacedHost) -> None:
        self.node = host.node
        self._host = host
        self._ended: asyncio.Task[int | None] | None = None
        self._memory = MemoryUse()

    async def prepare(self, spec: ModelSpec, on_progress: Callable[[float], None]) -> ModelSpec:
        """Start the actor and have the model's files on the node. Returns the spec with their place there.

        Args:
            on_progress: takes the share of the files that has been sent, if they are sent.

        Raises:
            LqmfError: it cannot be started there.
        """
        await self._host.open(WorkerHost)
        placed = msgspec.structs.replace(spec, path=await deliver(self._host, spec, on_progress))
        if not (draft := spec.options.get("draft_model")):
            return placed
        found = await asyncio.to_thread(inspect_model, draft)
        other = msgspec.structs.replace(spec, name=found.name, path=found.path, version=found.version)
        path = await deliver(self._host, other, lambda share: None)
        return msgspec.structs.replace(placed, options={**placed.options, "draft_model": path})

    async def start(self, spec: ModelSpec, port: WorkerPort, token: bytes, *, gpus: bool) -> None:
        """Start the worker.

        Raises:
            LqmfError: it cannot be started there.
        """
        order = Start(
            node=self.node,
            address=port.address,
            token=token,
            certificate=port.certificate,
            n_threads=spec.options["n_threads"],
            gpus=gpus,
        )
        try:
            async with asyncio.timeout(self._host.start_timeout_s):
                self.pid = await self._host.ask("start", order)
        except TimeoutError:
            raise self._host.too_slow() from None
        self._ended = asyncio.create_task(self._exit_code())

    async def _exit_code(self) -> int | None:
        try:
            return int(await self._host.ask("exit_code"))
        except EngineLostError:
            return None

    async def watch(self) -> int | None:
        """Wait until the worker ends. Returns its exit code; None if the actor or the node is lost."""
        assert self._ended is not None
        return await asyncio.shield(self._ended)

    async def exit_code(self) -> int | None:
        """See `WorkerProcess`."""
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self.watch(), _EXIT_CODE_TIMEOUT_S)
        return None

    async def memory(self) -> MemoryUse:
        """See `WorkerProcess`. The figures of the last time if the node does not answer now."""
        if not self._host.is_open:
            return MemoryUse()
        with contextlib.suppress(EngineLostError):
            self._memory = await self._host.ask("memory", seconds=_MEMORY_TIMEOUT_S)
            self._host.measured(self._memory.rss_mb)
        return self._memory

    async def close(self) -> None:
        """See `WorkerProcess`. A node that does not answer is given up."""
        await self._host.close("close")
        if self._ended is not None:
            self._ended.cancel()
