"""Replicas that are started, started again, and given up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from lqmf_runner.engine.client import EngineClient
from lqmf_runner.engine.replicas.replica_set import ReplicaSet
from lqmf_runner.errors import (
    ConflictError,
    EndpointLostError,
    EndpointSetupError,
    EngineLostError,
    UnavailableError,
)

from ...support.engine.paced import PacedEngine, Starts
from ...support.engine.replica_sets import ask, run, states, streamed
from ...support.engine.scripted import run_virtual


def test_a_lost_replica_comes_back_at_once_and_then_after_growing_delays():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        starts.errors[1] = [EngineLostError("no memory")] * 3
        starts.latest(1).kill()
        await asyncio.sleep(0.05)
        assert states(replicas) == ["ready", "starting"]
        await asyncio.sleep(0.1)
        assert states(replicas) == ["ready", "waiting"]
        await asyncio.sleep(10)
        assert states(replicas) == ["ready", "ready"]
        assert replicas.replicas()[1].losses == 4
        gaps = [b - a - 0.1 for a, b in zip(starts.at[1][1:], starts.at[1][2:], strict=False)]
        assert gaps == pytest.approx([1, 2, 4], abs=0.01)

    run(test)


@pytest.mark.parametrize(
    ("load_s", "stable_s", "state"), [(0.1, 9, "waiting"), (0.1, 11, "starting"), (20, 15, "waiting")]
)
def test_a_replica_that_was_ready_for_a_while_is_started_again_at_once(load_s, stable_s, state):
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        starts.latest(0).kill()
        await asyncio.sleep(load_s + stable_s)
        starts.latest(0).kill()
        assert states(replicas) == [state, "ready"]

    run(test, source=Starts(load_s=load_s))


def test_requests_wait_while_the_only_replica_is_started_again():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        starts.latest(0).kill()
        assert await streamed(replicas, ask(tokens=2)) == "xx"

    run(test, count=1)


def test_a_request_waits_for_the_next_try_to_start_a_replica():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        starts.errors[0] = [EngineLostError("no memory")] * 3
        starts.latest(0).kill()
        await asyncio.sleep(0.2)
        assert states(replicas) == ["waiting"]
        assert await streamed(replicas, ask(tokens=2)) == "xx"

    run(test, count=1)


def test_where_none_answers_and_none_comes_soon_the_error_says_when_to_try_again():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        starts.errors[0] = [EngineLostError("no memory")] * 6
        starts.latest(0).kill()
        early = asyncio.create_task(streamed(replicas, ask()))
        await asyncio.sleep(16)  # tried at 0, 1.1, 3.2, 7.3 and 15.4; then 16 s later
        with pytest.raises(UnavailableError, match="none of the 1 replicas of 'm' answers") as error:
            await streamed(replicas, ask())
        assert error.value.retry_after_s == pytest.approx(15.5, abs=0.1)
        with pytest.raises(UnavailableError):
            await early

    run(test, count=1)


def test_a_pool_starts_with_the_endpoints_that_answer():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        assert states(replicas) == ["ready", "starting"]
        assert "1 of 2 replicas are ready" in replicas.info.notes
        await asyncio.sleep(0.5)
        assert states(replicas) == ["ready", "ready"]

    source = Starts(all_needed=False)
    source.errors[1] = [EndpointLostError("cannot reach it")]
    run(test, source=source)


@pytest.mark.parametrize(
    ("all_needed", "error"),
    [(True, EngineLostError("no memory")), (False, EndpointSetupError("another model"))],
)
def test_a_start_that_fails_leaves_nothing(all_needed, error):
    async def go(clock: Callable[[], float]) -> None:
        source = Starts(all_needed=all_needed)
        source.errors[1] = [error]
        with pytest.raises(type(error), match=str(error)):
            await ReplicaSet.start("m", source, 3)
        assert [engine.closed for _, engine in source.engines] == [True, True]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(go)


def test_a_start_that_is_cancelled_leaves_nothing():
    async def go(clock: Callable[[], float]) -> None:
        starting = asyncio.create_task(ReplicaSet.start("m", source := Starts(), 2))
        await asyncio.sleep(0.05)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert (source.engines, asyncio.all_tasks()) == ([], {asyncio.current_task()})

    run_virtual(go)


def test_scaling_down_drops_no_request():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        asking = [asyncio.create_task(streamed(replicas, ask(f"{n}", 20))) for n in range(4)]
        await asyncio.sleep(0.05)
        await replicas.scale(1)
        assert sorted(states(replicas)) == ["draining", "draining", "draining", "ready"]
        assert await asyncio.gather(*asking) == ["x" * 20] * 4
        await asyncio.sleep(0.1)
        assert states(replicas) == ["ready"]
        stats = await replicas.stats()
        assert (stats.requests, stats.prompt_tokens) == (4, 4)  # those of the ended ones count on

    run(test, count=4)


def test_scaling_up_answers_when_the_new_ones_do_and_fills_the_gaps():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        await replicas.scale(4)
        assert states(replicas) == ["ready"] * 4
        assert replicas.info.max_slots == 16
        starts.errors[4] = [EngineLostError("no memory")]
        with pytest.raises(EngineLostError, match="no memory"):
            await replicas.scale(6)
        assert [replica.number for replica in replicas.replicas()] == [0, 1, 2, 3]

    run(test)


def test_of_replicas_that_are_being_started_those_end_that_are_not_wanted_any_more():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        starts.load_s = 10.0
        began = asyncio.get_running_loop().time()
        more = asyncio.create_task(replicas.scale(5))
        await asyncio.sleep(1)
        await replicas.scale(3)
        assert states(replicas) == ["ready"] * 3
        assert asyncio.get_running_loop().time() - began == pytest.approx(10.0), "the third went on"
        with pytest.raises(ConflictError, match="'m' was set to 3 while it was being set to 5"):
            await more
        assert sorted(starts.at) == [0, 1, 2, 3, 4]
        assert len(starts.engines) == 3

    run(test)


def test_a_replica_that_was_to_end_stays_if_it_is_wanted_again():
    """ray-project/ray#43030: those that were ending kept new ones from starting."""

    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        asking = [asyncio.create_task(streamed(replicas, ask(f"{n}", 200))) for n in range(3)]
        await asyncio.sleep(0.05)
        await replicas.scale(1)
        assert sorted(states(replicas)) == ["draining", "draining", "ready"]
        await replicas.scale(2)
        assert sorted(states(replicas)) == ["draining", "ready", "ready"]
        await replicas.scale(4)
        assert states(replicas) == ["ready"] * 4
        assert await asyncio.gather(*asking) == ["x" * 200] * 3
        await asyncio.sleep(1)
        assert states(replicas) == ["ready"] * 4
        assert [number for number, _ in starts.engines] == [0, 1, 2, 3]

    run(test, count=3)


def test_a_scale_that_is_cancelled_leaves_no_replica_that_nobody_knows():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        scaling = asyncio.create_task(replicas.scale(4))
        await asyncio.sleep(0.5)
        starts.latest(2).kill()  # it is started again
        await asyncio.sleep(0)
        scaling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await scaling
        await asyncio.sleep(5)
        assert states(replicas) == ["ready", "ready"]
        assert sum(not (engine.closed or engine.dead) for _, engine in starts.engines) == 2

    run(test, source=SlowThird())


class SlowToEnd(PacedEngine):
    """Takes a second to close."""

    async def close(self) -> None:
        await asyncio.sleep(1)
        await super().close()


def test_the_number_of_an_endpoint_is_free_when_it_is_closed():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        await replicas.scale(1)
        await asyncio.sleep(0.5)
        given_up = asyncio.create_task(replicas.scale(2))
        await asyncio.sleep(0.1)
        given_up.cancel()  # the end of the other one goes on
        await replicas.scale(2)
        assert [(r.number, r.state) for r in replicas.replicas()] == [(0, "ready"), (1, "ready")]
        assert [number for number, _ in starts.engines] == [0, 1, 1]
        assert starts.engines[1][1].closed

    run(test, source=Starts(SlowToEnd, most=2))


class Stubborn(Starts):
    """Replica 2 starts even if it is told to end."""

    async def start(self, number: int, on_progress: Any) -> EngineClient:
        if number != 2:
            return await super().start(number, on_progress)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return await super().start(number, on_progress)


def test_a_replica_that_starts_after_it_was_given_up_ends_at_once():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        more = asyncio.create_task(replicas.scale(3))
        await asyncio.sleep(1)
        await replicas.scale(2)
        with pytest.raises(ConflictError):
            await more
        await asyncio.sleep(1)
        assert states(replicas) == ["ready"] * 2
        assert starts.latest(2).closed

    run(test, source=Stubborn())


def test_what_was_unloaded_gets_no_more_replicas():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        first = asyncio.create_task(replicas.scale(3))
        second = asyncio.create_task(replicas.scale(4))  # waits for the first
        await asyncio.sleep(0.05)
        await replicas.close()
        for scaling in (first, second, asyncio.create_task(replicas.scale(5))):
            with pytest.raises(EngineLostError, match="was unloaded"):
                await scaling
        assert len(starts.engines) == 2

    run(test)


class SlowThird(Starts):
    """Replica 3 takes a second longer to start, and then does not."""

    async def start(self, number: int, on_progress: Any) -> EngineClient:
        if number == 3:
            await asyncio.sleep(1)
            raise EngineLostError("no memory")
        return await super().start(number, on_progress)


def test_replicas_that_are_taken_back_answer_the_requests_they_have_got():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        first = [asyncio.create_task(streamed(replicas, ask(f"{n}", 300))) for n in range(2)]
        await asyncio.sleep(0)
        scaling = asyncio.create_task(replicas.scale(4))
        await asyncio.sleep(0.5)
        third = asyncio.create_task(streamed(replicas, ask("third", 300)))
        with pytest.raises(EngineLostError, match="no memory"):
            await scaling
        assert len(starts.latest(2).requests) == 1
        assert states(replicas) == ["ready", "ready", "draining"]
        assert await asyncio.gather(third, *first) == ["x" * 300] * 3
        await asyncio.sleep(0.1)
        assert states(replicas) == ["ready", "ready"]

    run(test, source=SlowThird())


def test_a_replica_that_is_lost_before_it_is_taken_back_does_not_come_again():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        scaling = asyncio.create_task(replicas.scale(4))
        await asyncio.sleep(0.95)
        starts.latest(2).kill()  # it is being started again when the other one fails
        with pytest.raises(EngineLostError, match="no memory"):
            await scaling
        await asyncio.sleep(5)
        assert states(replicas) == ["ready", "ready"]

    run(test, source=SlowThird())


def test_a_replica_that_waits_for_its_next_start_is_the_first_to_be_given_up():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        starts.errors[0] = [EngineLostError("no memory")] * 9
        starts.latest(0).kill()
        await asyncio.sleep(5)
        assert states(replicas) == ["waiting", "ready"]
        await replicas.scale(1)
        await asyncio.sleep(60)
        assert [(r.number, r.state) for r in replicas.replicas()] == [(1, "ready")]
        assert len(starts.at[0]) == 4, "nobody tries any more"

    run(test)


def test_a_pool_has_no_more_replicas_than_endpoints():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        with pytest.raises(ConflictError, match="cannot have 3 replicas"):
            await replicas.scale(3)

    run(test, source=Starts(most=2))
