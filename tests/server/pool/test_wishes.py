"""What becomes of a scale or an unload when another one comes meanwhile, or when nobody waits for it any more."""

from __future__ import annotations

import asyncio

import pytest

from lqmf_runner.engine import EngineClient
from lqmf_runner.engine.replicas.sources import Progress
from lqmf_runner.errors import ConflictError
from lqmf_runner.types import Placement

from ...support.engine.paced import PacedEngine, Starts
from .test_scaling import World, run


def test_fewer_replicas_do_not_wait_for_those_that_are_being_started():
    async def test(world: World) -> None:
        model = await world.pool.load("m")
        world.starts.load_s = 100.0
        more = asyncio.create_task(world.pool.scale("m", 4))
        await asyncio.sleep(1)
        assert world.states == ["ready"] * 2 + ["starting"] * 2
        later = asyncio.create_task(world.pool.scale("m", 6))  # waits for the first
        await asyncio.sleep(1)
        began = world.clock()
        await world.pool.scale("m", 1)
        assert world.clock() - began < 1
        for scaling, count in ((more, 4), (later, 6)):
            with pytest.raises(ConflictError, match=f"was set to 1 while it was being set to {count}"):
                await scaling
        await asyncio.sleep(0.1)
        assert (world.states, model.spec.placement.replicas) == (["ready"], 1)
        assert len(world.starts.engines) == 2

    run(test, Placement(replicas=2))


def test_replicas_that_are_to_replace_a_worker_are_given_up_if_another_number_is_wanted():
    async def test(world: World) -> None:
        asking = asyncio.create_task(world.ask(400))
        await asyncio.sleep(0.5)
        world.starts.load_s = 100.0
        more = asyncio.create_task(world.pool.scale("m", 4))
        await asyncio.sleep(1)
        world.starts.load_s = 0.1
        model = await world.pool.scale("m", 2)
        with pytest.raises(ConflictError, match="was set to 2 while it was being set to 4"):
            await more
        assert world.clock() < 5
        assert (world.states, model.replacing) == (["ready"] * 2, None)
        assert await asking == "x" * 400
        assert len(world.starts.engines) == 3

    run(test, Placement())


def test_a_number_that_is_wanted_again_is_started_again():
    async def test(world: World) -> None:
        await world.pool.load("m")
        world.starts.load_s = 10.0
        scales = []
        for count in (4, 2, 4):
            scales.append(asyncio.create_task(world.pool.scale("m", count)))
            await asyncio.sleep(1 if len(scales) == 1 else 0)
        outcomes = await asyncio.gather(*scales, return_exceptions=True)
        assert [isinstance(outcome, ConflictError) for outcome in outcomes] == [False, True, False]
        assert world.states == ["ready"] * 4

    run(test, Placement())


def test_a_scale_of_one_worker_that_is_cancelled_starts_nothing_more():
    async def test(world: World) -> None:
        model = await world.pool.load("m")
        world.starts.load_s = 100.0
        scaling = asyncio.create_task(world.pool.scale("m", 4))
        await asyncio.sleep(1)
        scaling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await scaling
        await asyncio.sleep(200)
        assert (len(world.starts.engines), model.replacing) == (1, None)
        assert await world.ask(5) == "xxxxx"

    run(test, Placement())


class SlowToEnd(PacedEngine):
    """Takes a second to close."""

    async def close(self) -> None:
        await asyncio.sleep(1)
        await super().close()


class OneSoon(Starts):
    """All but the first engine of a set take long to load."""

    async def start(self, number: int, on_progress: Progress) -> EngineClient:
        await asyncio.sleep(100.0 * (number > 0))
        return await super().start(number, on_progress)


@pytest.mark.parametrize("gone", [False, True])
def test_all_workers_of_replicas_end_however_often_they_are_given_up(gone):
    async def test(world: World) -> None:
        world.starts = OneSoon(SlowToEnd)
        await world.pool.load("m")
        scales = []
        for count in (4, 3):
            scales.append(asyncio.create_task(world.pool.scale("m", count)))
            await asyncio.sleep(0.5)
        if gone:
            scales[0].cancel()
        await world.pool.scale("m", 2)
        await asyncio.gather(*scales, return_exceptions=True)
        await asyncio.sleep(5)
        assert world.states == ["ready"] * 2
        assert sum(not engine.closed for _, engine in world.starts.engines) == 2

    run(test, Placement())


def test_an_unload_that_nobody_waits_for_any_more_ends_the_worker():
    async def test(world: World) -> None:
        world.starts = Starts(SlowToEnd)
        await world.pool.load("m")
        unloading = asyncio.create_task(world.pool.unload("m"))
        await asyncio.sleep(0.5)
        unloading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await unloading
        await asyncio.sleep(1)
        assert world.starts.latest(0).closed

    run(test, Placement())
