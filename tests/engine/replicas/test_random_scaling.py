"""Replicas that are scaled, killed and asked at random, by calls that are cancelled at random."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from lqmf_runner.engine.client import EngineClient
from lqmf_runner.engine.replicas.replica_set import ReplicaSet
from lqmf_runner.engine.replicas.sources import Progress
from lqmf_runner.errors import EngineLostError, LqmfError

from ...support.engine.paced import PacedEngine, Starts
from ...support.engine.replica_sets import ask, states, streamed
from ...support.engine.scripted import run_virtual

WANTED, MOST = 3, 4


class SlowToEnd(PacedEngine):
    """Takes a moment to close."""

    async def close(self) -> None:
        await asyncio.sleep(0.2)
        await super().close()


class Unreliable(Starts):
    """Starts take from 0.05 to 3 s, and one in ten fails."""

    def __init__(self, randomly: random.Random, most: int | None) -> None:
        super().__init__(SlowToEnd, most=most)
        self._randomly = randomly

    async def start(self, number: int, on_progress: Progress) -> EngineClient:
        assert self.most is None or number < self.most
        self.load_s = self._randomly.choice([0.05, 0.5, 3.0])
        if self._randomly.random() < 0.1:
            await asyncio.sleep(0.3)
            raise EngineLostError("no memory")
        return await super().start(number, on_progress)

    @property
    def alive(self) -> list[PacedEngine]:
        return [engine for _, engine in self.engines if not engine.closed and not engine.dead]


async def disturb(replicas: ReplicaSet, starts: Unreliable, randomly: random.Random) -> None:
    """Only errors of ours come of it, and cancellations."""
    scales: list[asyncio.Task[None]] = []
    asked: list[asyncio.Task[str]] = []
    for n in range(60):
        what = randomly.random()
        if what < 0.3:
            scales.append(asyncio.create_task(replicas.scale(randomly.randint(1, MOST))))
        elif what < 0.4 and starts.alive:
            randomly.choice(starts.alive).kill()
        elif what < 0.45 and scales:
            randomly.choice(scales).cancel()
        else:
            asked.append(asyncio.create_task(streamed(replicas, ask(f"{n}", randomly.randint(1, 200)))))
        await asyncio.sleep(randomly.choice([0, 0.01, 0.3]))
    for outcome in await asyncio.gather(*scales, *asked, return_exceptions=True):
        if isinstance(outcome, BaseException) and not isinstance(outcome, LqmfError | asyncio.CancelledError):
            raise outcome


async def scaled(replicas: ReplicaSet, count: int) -> None:
    """Scale until the starts succeed."""
    while True:
        try:
            return await replicas.scale(count)
        except EngineLostError:
            continue


@pytest.mark.parametrize("seed", [*range(20), 1193, 2041])
def test_whatever_happens_the_last_number_is_there_in_the_end_and_nothing_else(seed: int) -> None:
    randomly = random.Random(seed)

    async def go(clock: Callable[[], float]) -> None:
        starts = Unreliable(randomly, randomly.choice([None, MOST]))
        replicas = ReplicaSet("m", starts)
        await scaled(replicas, 2)
        await disturb(replicas, starts, randomly)
        await scaled(replicas, WANTED)
        await asyncio.sleep(200)  # longer than the longest wait between two starts
        found = replicas.replicas()
        assert states(replicas) == ["ready"] * WANTED
        assert len({replica.number for replica in found}) == len(starts.alive) == WANTED
        assert {(replica.running, replica.work_tokens) for replica in found} == {(0, 0)}
        await replicas.close()
        assert not starts.alive
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(go)
