"""Replicas to kill and stop: workers on this machine, or on the nodes of a Ray cluster."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import Callable, Iterator, Sequence

import psutil

from ..processes import command
from ..ray_nodes import RayNodes

KILLED_S, HUNG_S = 3.0, 6.0
"""Within so many seconds of a kill, and of a node's standstill, streams that break must have their error."""
PAUSE_S = 1.5
"""A node that stands still for so long is not lost."""

Begin = Callable[[float], None]


class LocalReplicas:
    """The workers of a server on this machine."""

    kinds: Sequence[str] = ("worker",)

    def __init__(self, server: psutil.Process, randomly: random.Random) -> None:
        self._server = server
        self._random = randomly

    def processes(self) -> list[psutil.Process]:
        """The workers, and the processes that were started for them."""
        return [each for each in self._server.children() if _is_worker(each)]

    async def break_one(self, kind: str, begin: Begin) -> None:
        """Kill a worker, which `begin` is told."""
        assert kind == "worker"
        begin(KILLED_S)
        _kill(self._random.choice(self.processes()))

    async def settled(self) -> None:
        """There is nothing to wait for."""


class PlacedReplicas:
    """Workers on the nodes of a cluster, which has room for all of them when a node is gone."""

    kinds: Sequence[str] = ("worker", "actor", "node", "hang", "pause")

    def __init__(self, cluster: RayNodes, randomly: random.Random) -> None:
        self._cluster = cluster
        self._random = randomly
        self._adding: asyncio.Task[None] | None = None

    def processes(self) -> list[psutil.Process]:
        """The workers and the actors that have started them, on all nodes."""
        return [each for each in self._of_cluster() if _is_worker(each) or _is_host(each)]

    async def break_one(self, kind: str, begin: Begin) -> None:
        """Break a worker, an actor or a node, which `begin` is told. Another node takes the place of one that is lost.

        It is there before the next node is lost.
        """
        if kind in ("worker", "actor"):
            begin(KILLED_S)
            worker = self._random.choice([each for each in self._of_cluster() if _is_worker(each)])
            _kill(worker if kind == "worker" else worker.parent())
            return
        await self.settled()
        name = self._random.choice(list(self._cluster.nodes))
        if kind == "node":
            begin(KILLED_S)
            await self._replace(name)
        else:
            tree = self._tree(name)
            begin(HUNG_S)
            _signal(tree, signal.SIGSTOP)
            await asyncio.sleep(PAUSE_S if kind == "pause" else HUNG_S + 1)
            _signal(tree, signal.SIGCONT)
            if kind == "hang":
                await self._replace(name)

    async def settled(self) -> None:
        """Wait until all nodes are there."""
        if self._adding is not None:
            await self._adding

    async def _replace(self, name: str) -> None:
        like = self._cluster.nodes[name]
        await asyncio.to_thread(self._cluster.remove, name)
        self._adding = asyncio.create_task(asyncio.to_thread(self._cluster.add, name, *like))

    def _tree(self, name: str) -> list[psutil.Process]:
        """All processes of a node, the one that would start others first."""
        raylet = next(each for each in self._of_cluster() if f"--node-name={name}" in command(each))
        return [raylet, *raylet.children(recursive=True)]

    def _of_cluster(self) -> Iterator[psutil.Process]:
        """Also those whose parents are gone."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("RAY_TMPDIR") == self._cluster.env["RAY_TMPDIR"]:
                    yield process


def _is_worker(process: psutil.Process) -> bool:
    return "lqmf_runner.engine.worker" in command(process)


def _is_host(process: psutil.Process) -> bool:
    return any("WorkerHost" in word for word in command(process))


def _kill(process: psutil.Process | None) -> None:
    assert process is not None
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def _signal(processes: Sequence[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
