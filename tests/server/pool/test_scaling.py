"""Replicas of a model in the pool, with paced engines on a clock that only goes on where somebody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from lqmf_runner.config import ServerConfig
from lqmf_runner.engine import EngineClient
from lqmf_runner.engine.replicas.replica_set import ReplicaSet
from lqmf_runner.errors import ConflictError, DoesNotFitError, EngineLostError, UnavailableError
from lqmf_runner.server.pool.pool import ModelPool
from lqmf_runner.types import GenerationRequest, ModelSpec, Placement, SamplingParams

from ...support.engine.paced import Starts
from ...support.engine.scripted import run_virtual
from ...support.server.fakes import FakeCatalog


class Placed(FakeCatalog):
    """One model, "m", with a placement."""

    def __init__(self, placement: Placement) -> None:
        super().__init__({"m": 100.0, "other": 100.0})
        self.placement = placement

    async def find(self, name: str) -> tuple[ModelSpec, float]:
        spec, size_mb = await super().find(name)
        return msgspec.structs.replace(spec, placement=self.placement), size_mb


class World:
    """A pool whose workers are paced; each uses 200 MB."""

    def __init__(self, clock: Callable[[], float], placement: Placement, **config: Any) -> None:
        self.clock = clock
        self.starts = Starts()
        self.pool = ModelPool(Placed(placement), ServerConfig(**config), load=self._load)

    async def _load(self, spec: ModelSpec, on_progress: Any) -> EngineClient:
        if spec.placement.most_replicas == 1:
            return await self.starts.start(0, None)
        return await ReplicaSet.start(spec.name, self.starts, spec.placement.replicas)

    async def ask(self, tokens: int = 100, name: str = "m") -> str:
        request = GenerationRequest(prompt="hello", sampling=SamplingParams(max_tokens=tokens))
        async with self.pool.lease(name) as (_, engine):
            return "".join([chunk.text async for chunk in engine.generate(request)])

    @property
    def states(self) -> list[str]:
        model = self.pool.get("m")
        return [replica.state for replica in model.replicas] if model else []


def run(test: Callable[[World], Coroutine[Any, Any, None]], placement: Placement, **config: Any) -> None:
    async def go(clock: Callable[[], float]) -> None:
        world = World(clock, placement, **config)
        await test(world)
        await world.pool.close()
        await asyncio.sleep(0)
        assert all(engine.closed for _, engine in world.starts.engines)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(go)


def test_a_model_comes_up_with_its_replicas_and_the_memory_of_all_counts():
    async def test(world: World) -> None:
        model = await world.pool.load("m")
        assert world.states == ["ready"] * 3
        assert (model.memory_mb, world.pool.memory_mb) == (600.0, 600.0)

    run(test, Placement(replicas=3))


def test_a_single_worker_is_replaced_without_dropping_a_request():
    async def test(world: World) -> None:
        asking = [asyncio.create_task(world.ask()) for _ in range(4)]
        await asyncio.sleep(0.5)
        (_, alone), *_ = world.starts.engines
        model = await world.pool.scale("m", 2)
        assert world.states == ["ready", "ready"]
        assert not alone.closed
        more = [asyncio.create_task(world.ask()) for _ in range(4)]
        assert await asyncio.gather(*asking, *more) == ["x" * 100] * 8
        await asyncio.sleep(0)
        assert alone.closed
        assert len(alone.requests) == 4
        assert model.memory_mb == 400.0
        await world.pool.scale("m", 1)
        await asyncio.sleep(0.1)
        assert world.states == ["ready"]

    run(test, Placement())


@pytest.mark.parametrize("placement", [Placement(), Placement(replicas=2)])
def test_a_model_is_not_idle_while_its_replicas_start(placement):
    async def test(world: World) -> None:
        await world.pool.load("m", keep_alive_s=0.05)  # a start takes 0.1 s
        await world.pool.scale("m", 3)
        assert world.states == ["ready"] * 3
        await asyncio.sleep(0.1)
        assert world.states == []

    run(test, placement)


def test_a_worker_whose_place_replicas_have_taken_ends_when_the_model_is_unloaded():
    async def test(world: World) -> None:
        asking = asyncio.create_task(world.ask(400))
        await asyncio.sleep(0.5)
        await world.pool.scale("m", 2)
        await world.pool.unload("m", force=True)
        assert [engine.closed for _, engine in world.starts.engines] == [True] * 3
        await asking

    run(test, Placement())


def test_a_worker_whose_place_replicas_have_taken_ends_after_its_last_request_however_they_are_scaled():
    async def test(world: World) -> None:
        asking = asyncio.create_task(world.ask(400))
        await asyncio.sleep(0.5)
        (_, alone), *_ = world.starts.engines
        await world.pool.scale("m", 3)
        await world.pool.scale("m", 1)
        assert not alone.closed
        assert await asking == "x" * 400
        await asyncio.sleep(0.1)
        assert alone.closed
        assert sum(not engine.closed for _, engine in world.starts.engines) == 1

    run(test, Placement())


def test_replicas_that_are_to_replace_a_worker_end_when_the_model_is_unloaded_meanwhile():
    async def test(world: World) -> None:
        asking = asyncio.create_task(world.ask(400))
        await asyncio.sleep(0.5)
        scaling = asyncio.create_task(world.pool.scale("m", 2))
        await asyncio.sleep(0.05)
        await world.pool.unload("m", force=True)
        with pytest.raises(UnavailableError, match="while its replicas were started"):
            await scaling
        assert [engine.closed for _, engine in world.starts.engines] == [True] * 3
        await asking

    run(test, Placement())


def test_a_worker_that_dies_while_replicas_are_started_is_started_again_and_they_end():
    async def test(world: World) -> None:
        model = await world.pool.load("m")
        scaling = asyncio.create_task(world.pool.scale("m", 2))
        await asyncio.sleep(0.05)
        world.starts.latest(0).kill()
        with pytest.raises(UnavailableError, match="while its replicas were started"):
            await scaling
        assert await world.ask(5) == "xxxxx"
        assert (model.state, model.replicas) == ("ready", [])
        assert sum(not engine.closed for _, engine in world.starts.engines) == 1

    run(test, Placement())


def test_the_same_number_again_changes_nothing():
    async def test(world: World) -> None:
        await world.pool.load("m")
        await world.pool.scale("m", 2)
        assert (len(world.starts.engines), world.states) == (2, ["ready"] * 2)

    run(test, Placement(replicas=2))


@pytest.mark.parametrize(
    ("first", "then", "told"), [(4, 2, [ConflictError]), (1, 4, []), (3, 3, []), (5, 3, [ConflictError])]
)
def test_of_two_scales_at_once_the_later_one_counts_and_no_request_is_dropped(first, then, told):
    async def test(world: World) -> None:
        asking = [asyncio.create_task(world.ask(50)) for _ in range(8)]
        await asyncio.sleep(0.3)
        scales = [world.pool.scale("m", count) for count in (first, then)]
        answers = await asyncio.gather(*scales, return_exceptions=True)
        assert [type(answer) for answer in answers if isinstance(answer, Exception)] == told
        assert await asyncio.gather(*asking) == ["x" * 50] * 8
        await asyncio.sleep(0.1)
        assert world.states == ["ready"] * then
        assert sum(not engine.closed for _, engine in world.starts.engines) == then

    run(test, Placement(replicas=2))


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_model_that_is_still_loading_is_scaled_when_it_is_loaded(replicas):
    async def test(world: World) -> None:
        asking = asyncio.create_task(world.ask(50))
        await asyncio.sleep(0.05)
        await world.pool.scale("m", 3)
        assert world.states == ["ready"] * 3
        assert await asking == "x" * 50

    run(test, Placement(replicas=replicas))


def test_a_scale_that_waits_for_another_one_is_told_of_an_unload():
    async def test(world: World) -> None:
        await world.pool.load("m")
        scaling = [asyncio.create_task(world.pool.scale("m", count)) for count in (3, 4)]
        await asyncio.sleep(0.05)
        await world.pool.unload("m")
        errors = await asyncio.gather(*scaling, return_exceptions=True)
        assert [type(error) for error in errors] == [EngineLostError, UnavailableError]
        assert "m was unloaded" in str(errors[1])
        assert all(engine.closed for _, engine in world.starts.engines)

    run(test, Placement(replicas=2))


def test_replicas_that_do_not_fit_are_refused_and_nothing_changes():
    async def test(world: World) -> None:
        await world.pool.load("m")
        with pytest.raises(
            DoesNotFitError, match="m needs about 1200 MB, and 1000 of 1000 MB are free"
        ) as error:
            await world.pool.scale("m", 6)
        assert "fewer replicas" in error.value.hint
        assert world.states == ["ready"] * 2
        assert world.pool.memory_mb == 400.0

    run(test, Placement(replicas=2), max_memory_mb=1000)


def test_idle_models_make_room_for_replicas():
    async def test(world: World) -> None:
        await world.ask(name="other")
        await world.pool.load("m")
        await world.pool.scale("m", 4)
        assert [model.name for model in world.pool.models] == ["m"]

    run(test, Placement(replicas=2), max_memory_mb=900)


def test_a_replica_that_does_not_start_leaves_those_there_are():
    async def test(world: World) -> None:
        await world.pool.load("m")
        world.starts.errors[3] = [EngineLostError("no memory")]
        with pytest.raises(EngineLostError, match="no memory"):
            await world.pool.scale("m", 4)
        assert world.states == ["ready"] * 2
        assert world.pool.memory_mb == 400.0

    run(test, Placement(replicas=2))


def test_an_unload_ends_replicas_that_are_being_started():
    async def test(world: World) -> None:
        await world.pool.load("m")
        scaling = asyncio.create_task(world.pool.scale("m", 4))
        await asyncio.sleep(0.05)
        await world.pool.unload("m")
        with pytest.raises(EngineLostError, match="unloaded"):
            await scaling
        assert not world.pool.models

    run(test, Placement(replicas=2))


def test_the_bounds_of_the_placement_are_kept():
    async def test(world: World) -> None:
        await world.pool.load("m")
        with pytest.raises(ConflictError, match="m has 1 to 3 replicas"):
            await world.pool.scale("m", 4)

    run(test, Placement(replicas=2, min_replicas=1, max_replicas=3))


def test_the_number_follows_the_queue_and_no_request_is_dropped():
    async def test(world: World) -> None:
        await world.pool.load("m")
        answers = await asyncio.gather(*(world.ask(tokens=400) for _ in range(16)))
        assert answers == ["x" * 400] * 16
        assert len(world.states) == 3
        await asyncio.sleep(300)
        assert world.states == ["ready"]

    run(test, Placement(replicas=1, min_replicas=1, max_replicas=3))


def test_a_replica_that_the_queue_wants_and_that_does_not_start_is_tried_again_a_minute_later():
    async def test(world: World) -> None:
        await world.pool.load("m")
        world.starts.errors[1] = [EngineLostError("no memory")]
        asking = [asyncio.create_task(world.ask(9000)) for _ in range(6)]
        await asyncio.sleep(30)
        assert world.states == ["ready"]
        await asyncio.sleep(40)
        assert world.states == ["ready"] * 2
        assert await asyncio.gather(*asking) == ["x" * 9000] * 6

    run(test, Placement(replicas=1, min_replicas=1, max_replicas=2))


def test_the_queue_ends_no_replica_below_the_least_number_and_replaces_lost_ones():
    async def test(world: World) -> None:
        await world.pool.load("m")
        await asyncio.gather(*(world.ask(400) for _ in range(24)))
        assert len(world.states) == 4
        world.starts.latest(2).kill()
        await asyncio.sleep(1)
        assert world.states == ["ready"] * 4
        await asyncio.sleep(600)
        assert world.states == ["ready"] * 2

    run(test, Placement(replicas=2, min_replicas=2, max_replicas=4))


def test_a_model_none_of_whose_replicas_answers_is_restarting():
    async def test(world: World) -> None:
        model = await world.pool.load("m")
        for _, engine in list(world.starts.engines):
            engine.kill()
        assert (model.state, model.shown_state) == ("ready", "restarting")
        assert await world.ask(5) == "xxxxx"
        assert model.shown_state == "ready"

    run(test, Placement(replicas=2))
