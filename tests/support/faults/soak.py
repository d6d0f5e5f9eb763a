"""Faults one after the other under load, and what is left after them."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx
import psutil

from .clients import Clients
from .replicas import LocalReplicas, PlacedReplicas

RETURN_S = 60.0
_GONE_S = 40.0  # an actor that cannot be reached when its node stands still ends half a minute later
_CLIENTS = 8


@dataclass
class Report:
    """Attributes:
    faults: how many there were, by kind.
    outcomes: requests, by how they ended.
    wrong: what must not be.
    latest_s: the longest time from a fault to an error.
    server: its memory in MB, threads, open files and ports before and after.
    """

    faults: dict[str, int]
    outcomes: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    latest_s: float = 0.0
    seconds: float = 0.0
    server: dict[str, list[float]] = field(default_factory=dict)

    def shown(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


async def soak(
    url: str,
    model: str,
    server: psutil.Process,
    replicas: LocalReplicas | PlacedReplicas,
    kinds: Sequence[str],
    randomly: random.Random,
    *,
    count: int,
) -> Report:
    """Break one thing after the other while clients ask, then wait until all `count` replicas are back.

    The next one comes as soon as more than half of the replicas are there, so that two may be lost in a row.
    """
    began_at, before = time.monotonic(), _figures(server)
    async with Clients.asking(url, model, randomly, _CLIENTS) as clients:
        for kind in kinds:
            await asyncio.sleep(randomly.uniform(0.2, 1.0))
            if kind == "pause":
                await _pause(url, replicas, clients, count)
            else:
                await replicas.break_one(kind, clients.fault)
            if not await _returns(url, count // 2 + 1):
                clients.seen.wrong.append(f"half of the replicas are not back after {RETURN_S:g} s")
                break
        await replicas.settled()
        if not await _returns(url, count):
            clients.seen.wrong.append(f"a replica is not back after {RETURN_S:g} s")
    seen = clients.seen
    after = _figures(server)
    return Report(
        faults=dict(Counter(kinds)),
        outcomes=dict(seen.outcomes),
        wrong=seen.wrong,
        latest_s=max(seen.latest_s, default=0.0),
        seconds=time.monotonic() - began_at,
        server={name: [before[name], after[name]] for name in before},
    )


async def _pause(url: str, replicas: LocalReplicas | PlacedReplicas, clients: Clients, count: int) -> None:
    await _returns(url, count)
    before = {process.pid for process in replicas.processes()}
    await replicas.break_one("pause", clients.fault)
    await asyncio.sleep(1)
    if {process.pid for process in replicas.processes()} != before:
        clients.seen.wrong.append("a replica was lost whose node stood still for a moment only")


async def all_end(replicas: LocalReplicas | PlacedReplicas, workers: int) -> list[psutil.Process]:
    """Wait until so many processes of workers (and as many hosts) are left; returns those that are too many."""
    deadline = time.monotonic() + _GONE_S
    while len(left := replicas.processes()) > workers and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    return left[workers:]


async def _replicas(url: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
        (model,) = (await http.get("/models")).json()["models"]
    return list(model["replicas"])


async def _returns(url: str, count: int) -> bool:
    deadline = time.monotonic() + RETURN_S
    while time.monotonic() < deadline:
        if sum(replica["state"] == "ready" for replica in await _replicas(url)) >= count:
            return True
        await asyncio.sleep(0.1)
    return False


def _figures(server: psutil.Process) -> dict[str, float]:
    listening = [c for c in server.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    return {
        "memory_mb": server.memory_full_info().uss / 1e6,
        "threads": server.num_threads(),
        "files": server.num_fds(),
        "ports": len(listening),
    }
