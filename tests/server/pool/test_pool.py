"""The pool's logic with scripted engines, on a clock that only goes on where somebody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from lqmf_runner.config import ServerConfig
from lqmf_runner.engine import EngineClient
from lqmf_runner.errors import (
    ConflictError,
    DoesNotFitError,
    EngineLostError,
    ModelNotFoundError,
    ModelUnusableError,
    UnavailableError,
)
from lqmf_runner.server.pool.growth import MEASURE_S
from lqmf_runner.server.pool.pool import ModelPool
from lqmf_runner.server.pool.pooled_model import READY
from lqmf_runner.types import MemoryUse, ModelSpec, PromptCacheUse

from ...support.engine.scripted import run_virtual
from ...support.server.fakes import FakeCatalog, FakeEngine

SIZES = {"a": 100.0, "b": 100.0, "c": 100.0, "huge": 100_000.0}


class World:
    """A pool and what it loads: each load takes `load_s`, uses `memory_mb[name]`, fails with `errors` in turn."""

    def __init__(self, clock: Callable[[], float], **config: Any) -> None:
        self.clock = clock
        self.loads: list[str] = []
        self.engines: dict[str, FakeEngine] = {}
        self.memory_mb: dict[str, float] = {}
        self.errors: list[Exception] = []
        self.load_s = 1.0
        self.make: Callable[..., FakeEngine] = FakeEngine
        self.pool = ModelPool(FakeCatalog(SIZES), ServerConfig(**config), load=self._load)

    async def _load(self, spec: ModelSpec, on_progress: Any) -> EngineClient:
        self.loads.append(spec.name)
        on_progress(0.5)
        await asyncio.sleep(self.load_s)
        if self.errors:
            raise self.errors.pop(0)
        engine = self.make(memory_mb=self.memory_mb.get(spec.name, 200.0))
        self.engines[spec.name] = engine
        return engine

    async def use(self, name: str, **options: Any) -> None:
        async with self.pool.lease(name, **options):
            pass

    async def hold(self, name: str, until: asyncio.Event) -> None:
        async with self.pool.lease(name):
            await until.wait()

    @property
    def names(self) -> set[str]:
        return {model.name for model in self.pool.models}


def run(test: Callable[[World], Coroutine[Any, Any, None]], **config: Any) -> None:
    """Run a test in a world of its own."""

    async def go(clock: Callable[[], float]) -> None:
        world = World(clock, **config)
        await test(world)
        await world.pool.close()
        assert all(engine.closed for engine in world.engines.values())

    run_virtual(go)


def test_two_who_want_a_model_share_one_load_and_see_its_progress():
    async def test(world: World) -> None:
        both = asyncio.gather(world.use("a"), world.use("a"))
        await asyncio.sleep(0.5)
        (model,) = world.pool.models
        assert (model.state, model.fraction, model.busy) == ("loading", 0.5, 2)
        await both
        assert world.loads == ["a"]
        assert (model.state, model.requests, model.memory_mb) == (READY, 2, 200.0)

    run(test)


def test_a_load_goes_on_when_one_of_those_who_wait_leaves():
    async def test(world: World) -> None:
        leaving, staying = asyncio.create_task(world.use("a")), asyncio.create_task(world.use("a"))
        await asyncio.sleep(0.5)
        leaving.cancel()
        await staying
        assert world.loads == ["a"]

    run(test)


def test_the_longest_unused_goes_first():
    async def test(world: World) -> None:
        await world.use("a")
        await world.use("b")
        await world.use("a")
        await world.use("c")
        assert world.names == {"a", "c"}
        assert world.engines["b"].closed

    run(test, max_models=2)


def test_neither_busy_nor_pinned_models_go():
    async def test(world: World) -> None:
        until = asyncio.Event()
        holding = asyncio.create_task(world.hold("a", until))
        await asyncio.sleep(2)
        await world.use("b")
        with pytest.raises(DoesNotFitError, match=r"c would be one more than 2 .*a \(200 MB\), b") as raised:
            await world.use("c")
        assert raised.value.retry_after_s
        until.set()
        await holding
        await world.use("c")
        assert world.names == {"b", "c"}

    run(test, max_models=2, pin=["b"])


def test_what_cannot_fit_is_refused_with_numbers_and_nothing_is_unloaded_for_it():
    async def test(world: World) -> None:
        await world.use("a")
        with pytest.raises(DoesNotFitError, match="huge needs about 110150 MB, and 8192 of 8192 MB are free"):
            await world.use("huge")
        assert world.names == {"a"}
        assert world.loads == ["a"]

    run(test)


def test_memory_counts_as_measured_once_a_model_is_in():
    async def test(world: World) -> None:
        world.memory_mb = {"a": 300.0, "b": 700.0, "c": 1200.0}
        await world.use("a")
        await world.use("b")
        assert world.pool.memory_mb == 1000.0
        assert world.names == {"a", "b"}
        with pytest.raises(DoesNotFitError, match="c uses 1200 MB, and 1000 of 1000 MB are free"):
            await world.use("c")
        assert world.names == {"b"}  # 260 MB were expected, for which the older one went
        assert world.engines["a"].closed

    run(test, max_memory_mb=1000)


def test_models_that_grow_too_large_together_let_the_longest_unused_go():
    async def test(world: World) -> None:
        for name in "abc":
            await world.use(name)
        world.engines["c"].memory_mb = 500.0
        await asyncio.sleep(10)
        await world.use("c")
        await asyncio.sleep(1)
        assert world.names == {"b", "c"}
        assert world.engines["a"].closed
        world.engines["c"].memory_mb = 5000.0  # too large alone
        await asyncio.sleep(10)
        await world.use("c")
        await asyncio.sleep(1)
        assert world.names == {"c"}

    run(test, max_memory_mb=800)


def test_no_more_models_go_than_must():
    async def test(world: World) -> None:
        world.memory_mb = {"a": 100.0, "b": 800.0, "c": 250.0}
        await world.use("a")
        await world.use("b")
        await world.use("c")
        assert world.names == {"a", "c"}

    run(test, max_memory_mb=1000)


def test_an_idle_model_is_unloaded_after_its_time_but_not_while_it_is_busy():
    async def test(world: World) -> None:
        until = asyncio.Event()
        holding = asyncio.create_task(world.hold("a", until))
        await asyncio.sleep(100)
        assert world.names == {"a"}
        until.set()
        await holding
        await asyncio.sleep(9)
        assert world.names == {"a"}
        await world.use("a")
        await asyncio.sleep(9)
        assert world.names == {"a"}
        await asyncio.sleep(2)
        assert world.names == set()
        assert world.engines["a"].closed

    run(test, idle_timeout_s=10)


def test_a_request_says_how_long_to_keep_the_model():
    async def test(world: World) -> None:
        await world.use("a", keep_alive_s=5)
        await world.use("b", keep_alive_s=-1)
        await world.use("c", keep_alive_s=0)
        await asyncio.sleep(0.1)
        assert world.names == {"a", "b"}
        await asyncio.sleep(6)
        assert world.names == {"b"}
        await asyncio.sleep(1000)
        assert world.names == {"b"}

    run(test, idle_timeout_s=20)


def test_what_overlapping_blocks_keep_is_neither_idle_nor_evicted_before_the_last_one_ends():
    async def test(world: World) -> None:
        await world.use("a")
        (model,) = world.pool.models
        with world.pool.keeping([model]):
            with world.pool.keeping([model]):
                await asyncio.sleep(30)
            await asyncio.sleep(30)
            with pytest.raises(DoesNotFitError, match="in use or pinned: a"):
                await world.use("b")
        await asyncio.sleep(9)
        assert world.names == {"a"}, "its time of being idle has begun"
        await asyncio.sleep(2)
        assert world.names == set()

    run(test, idle_timeout_s=10, max_models=1)


def test_a_crashed_model_is_back_by_itself_and_new_requests_wait_for_it():
    async def test(world: World) -> None:
        await world.use("a")
        await world.use("b")
        first = world.engines["a"]
        assert first.on_lost is not None
        first.on_lost(EngineLostError("killed"))
        assert world.pool.get("a").state == "restarting"
        await world.use("b")
        await world.use("a")
        assert world.engines["a"] is not first
        assert first.closed
        assert world.loads == ["a", "b", "a"]

    run(test)


def test_a_model_that_dies_while_it_is_measured_after_its_load_is_loaded_again():
    class Dying(FakeEngine):
        async def memory(self) -> MemoryUse:
            if len(world_loads) == 1:
                self.report_loss(EngineLostError("killed"))
            return await super().memory()

    world_loads: list[str] = []

    async def test(world: World) -> None:
        world.make, world.loads = Dying, world_loads
        await world.use("a")
        assert world.pool.get("a").state == "restarting"
        await world.use("a")
        assert (world.loads, world.pool.get("a").state) == (["a", "a"], READY)

    run(test)


def test_one_that_keeps_crashing_is_tried_again_after_longer_and_longer_waits():
    async def test(world: World) -> None:
        await world.use("a")
        world.errors = [EngineLostError(f"no {n}") for n in range(3)]
        world.load_s = 0.0
        began = world.clock()
        world.engines["a"].on_lost(EngineLostError("killed"))
        await asyncio.sleep(0.5)
        with pytest.raises(UnavailableError, match="has ended unexpectedly 2 times") as raised:
            await world.use("a")
        assert raised.value.retry_after_s == pytest.approx(0.5)
        times = []
        while world.pool.get("a").state != READY:
            before = len(world.loads)
            await asyncio.sleep(0.25)
            times += [world.clock() - began] * (len(world.loads) - before)
        assert [round(t) for t in times] == [1, 3, 7]

    run(test)


def test_a_load_that_fails_leaves_nothing_and_is_tried_again_by_the_next():
    async def test(world: World) -> None:
        world.errors = [ModelUnusableError("broken")]
        with pytest.raises(ModelUnusableError):
            await world.use("a")
        assert world.names == set()
        await world.use("a")
        assert world.names == {"a"}

    run(test)


def test_unload_refuses_a_busy_model_unless_forced_and_does_not_mind_an_unloaded_one():
    async def test(world: World) -> None:
        assert await world.pool.unload("a") is False
        with pytest.raises(ModelNotFoundError):
            await world.pool.unload("x")
        holding = asyncio.create_task(world.hold("a", asyncio.Event()))
        await asyncio.sleep(2)
        with pytest.raises(ConflictError, match="1 request"):
            await world.pool.unload("a")
        assert await world.pool.unload("a", force=True)
        assert world.engines["a"].closed
        holding.cancel()

    run(test)


def test_unloading_a_model_that_is_loading_ends_the_load_for_those_who_wait():
    async def test(world: World) -> None:
        using = asyncio.create_task(world.use("a"))
        await asyncio.sleep(0.5)
        assert await world.pool.unload("a", force=True)
        with pytest.raises(UnavailableError, match="unloaded while it was loading"):
            await using
        assert world.names == set()

    run(test)


def test_without_autoload_a_request_does_not_load():
    async def test(world: World) -> None:
        with pytest.raises(ConflictError, match="a is not loaded"):
            await world.use("a")
        with pytest.raises(ModelNotFoundError):
            await world.use("x")
        await world.pool.load("a")
        await world.use("a")

    run(test, autoload=False)


def test_prompts_in_main_memory_give_way_before_a_model_does():
    async def test(world: World) -> None:
        world.memory_mb = {"a": 500.0, "b": 700.0}
        await world.use("a")
        await world.use("b")
        world.engines["a"].kept = PromptCacheUse(limit_mb=400, mb=300)
        world.engines["b"].kept = PromptCacheUse(limit_mb=400, mb=300)
        await world.use("c")  # taken to need 260 MB: 1,460 with all prompts
        await asyncio.sleep(MEASURE_S)
        assert world.names == {"a", "b", "c"}
        kept = {name: world.engines[name].prompt_cache.mb for name in "ab"}
        assert kept == {"a": 40.0, "b": 300.0}, "that of the model unused longest goes first"
        assert world.pool.memory_mb == 1140
        with pytest.raises(DoesNotFitError, match="huge needs about"):
            await world.use("huge")

    run(test, max_memory_mb=1200)


def test_a_model_that_grew_loses_its_prompts_and_not_its_neighbour():
    async def test(world: World) -> None:
        await world.use("a")
        await world.use("b")
        world.engines["a"].kept = PromptCacheUse(limit_mb=400, mb=350)
        world.engines["a"].memory_mb = 550
        await asyncio.sleep(MEASURE_S)
        await world.use("b")
        await asyncio.sleep(0)
        assert world.names == {"a", "b"}
        assert world.engines["a"].prompt_cache.mb == 100

    run(test, max_memory_mb=500)
