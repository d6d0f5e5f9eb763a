"""`PlacedEngine`: an `EngineClient` whose model lives in a worker on a node of a Ray cluster."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import msgspec

from ...errors import EngineLostError
from ...types import Cluster, ModelSpec
from ..process import loss
from ..process_engine import ProcessEngine
from ..protocol import Ping
from .cluster import RayCluster, join
from .placed_host import PlacedHost
from .placed_process import PlacedProcess

HEARTBEAT_S = 0.5
SILENT_S, SILENT_LOADING_S = 5.0, 60.0  # while it loads, imports hold up all threads of a worker
_CONNECT_TIMEOUT_S = 10.0


class PlacedEngine(ProcessEngine):
    """Talks to a worker on a node. Make it with `PlacedEngine.start`."""

    _process: PlacedProcess

    def __init__(
        self, name: str, process: PlacedProcess, on_progress: Callable[[float], None] | None = None
    ) -> None:
        super().__init__(name, process, on_progress)
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def start(cls, spec: ModelSpec, on_progress: Callable[[float], None] | None = None) -> PlacedEngine:
        """Choose a node, start a worker there and load the model; returns when it is ready to answer.

        Raises:
            DoesNotFitError: no node has room for it.
            LqmfError: whatever else the load failed with; no process is left.
        """
        settings = spec.placement.cluster or Cluster()
        cluster = await join(settings)
        reservation = await cluster.reserve(spec)
        needs, node = reservation.needs, reservation.node
        sharing = min(spec.placement.most_replicas, node.room_for(needs))
        threads = spec.options.get("n_threads") or max(1, int(needs.cpus))
        options = {**spec.options, "n_threads": threads, "sharing": sharing}
        spec = msgspec.structs.replace(spec, options=options)
        progress = _Progress(on_progress)
        process = PlacedProcess(PlacedHost(cluster, settings, spec.name, reservation))
        engine = cls(spec.name, process, progress.loaded)
        try:
            spec = await process.prepare(spec, progress.sent)
            await engine.load(spec, engine._connect(spec, cluster, settings, gpus=needs.gpus > 0))
            await engine.memory()  # which counts for its node from now on
        except BaseException:
            await engine.close()
            raise
        return engine

    async def _connect(self, spec: ModelSpec, cluster: RayCluster, settings: Cluster, *, gpus: bool) -> None:
        async with cluster.port(settings) as port:
            with port.expect(self.connection) as (token, connected):
                await self._process.start(spec, port, token, gpus=gpus)
                try:
                    await asyncio.wait_for(connected, _CONNECT_TIMEOUT_S)
                except TimeoutError:
                    raise EngineLostError(
                        f"the worker of '{spec.name}' on node {self.place} has not connected",
                        hint="load it again",
                    ) from None
        for watch in (self._watch(), self._beat()):
            self._tasks.append(asyncio.create_task(watch))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await super().close()

    async def _watch(self) -> None:
        """Detect the end of the worker, and of the actor that measures and ends it."""
        code = await self._process.watch()
        if code is None:
            error = EngineLostError(
                f"node {self.place} with the worker of '{self._name}' is lost",
                hint="its requests failed; load the model again, which may choose another node",
            )
        else:
            error = loss(self._name, code, node=self.place, loading=not self.connection.loaded.done())
        self.give_up(error)

    async def _beat(self) -> None:
        """Ask twice a second whether the worker is there: a machine that hangs does not close its connections.

        It is silent only if nothing at all has come. Beats are counted and not seconds, because this process may have
        been stopped itself.
        """
        silent_s, begun = 0.0, False
        while self.alive:
            self.connection.heard = False
            with contextlib.suppress(EngineLostError):
                self.connection.send(Ping())
            await asyncio.sleep(HEARTBEAT_S)
            begun = begun or self.connection.heard
            silent_s = 0.0 if self.connection.heard else silent_s + HEARTBEAT_S
            limit_s = SILENT_S if self.connection.loaded.done() and begun else SILENT_LOADING_S
            if silent_s >= limit_s:
                self.give_up(
                    EngineLostError(
                        f"the worker of '{self._name}' on node {self.place} has not answered for {silent_s:g} s",
                        hint="its requests failed; load the model again, and see what the node is doing",
                    )
                )


class _Progress:
    """One share of a load of which the first half is the sending of files, where they are sent."""

    def __init__(self, report: Callable[[float], None] | None) -> None:
        self._report = report
        self._sent = 0.0

    def sent(self, share: float) -> None:
        """So much of the files is on the node."""
        self._sent = share / 2
        self.loaded(0.0)

    def loaded(self, share: float) -> None:
        """So much of the model is loaded there."""
        if self._report is not None:
            self._report(self._sent + share * (1 - self._sent))
