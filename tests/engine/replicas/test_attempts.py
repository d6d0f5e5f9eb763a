"""What becomes of requests whose replica is lost, fails or is busy."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from lqmf_runner.engine.replicas.attempts import MOST_LOST
from lqmf_runner.engine.replicas.policy import SILENT_S
from lqmf_runner.engine.replicas.replica_set import ReplicaSet
from lqmf_runner.errors import (
    EndpointBusyError,
    EndpointLostError,
    EndpointUnavailableError,
    EngineLostError,
    InvalidRequestError,
    QueueFullError,
    RemoteEngineError,
)

from ...support.engine.paced import Starts
from ...support.engine.replica_sets import ask, failing, run, states, streamed
from ...support.engine.scripted import Fail, Say, ScriptedEngine


def test_a_request_that_has_sent_nothing_is_answered_by_another_replica():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        asking = asyncio.create_task(streamed(replicas, ask(tokens=3)))
        await asyncio.sleep(0.005)
        (busy,) = [engine for _, engine in starts.engines if engine.running]
        busy.kill()
        assert await asking == "xxx"

    run(test)


def test_a_request_that_has_sent_something_fails_at_once_and_says_why():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        asking = asyncio.create_task(streamed(replicas, ask(tokens=50)))
        await asyncio.sleep(0.035)
        killed_at = asyncio.get_running_loop().time()
        starts.latest(0).kill()
        with pytest.raises(EngineLostError, match=r"replica 0 of 'm' was lost in the middle of") as error:
            await asking
        assert asyncio.get_running_loop().time() - killed_at < 0.1
        assert "send the request again" in error.value.hint

    run(test)


def test_a_stream_whose_tokens_have_shown_nothing_begins_again_elsewhere_and_counts_no_token_twice():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        chunks = [chunk async for chunk in replicas.generate(ask())]
        assert ("".join(chunk.text for chunk in chunks), chunks[-1].finish_reason) == ("\N{SNOWMAN}!", "stop")
        assert sum(len(chunk.token_ids) for chunk in chunks) == 3

    half = [
        Say(0.01),
        Say(0.01),
        Fail(0.01, EngineLostError("gone")),
    ]  # tokens of a character that is not whole
    scripts = iter([lambda *_: half])
    whole = [Say(0.01), Say(0.01, "\N{SNOWMAN}"), Say(0.01, "!")]
    run(test, source=Starts(lambda: ScriptedEngine(next(scripts, lambda *_: whole))))


def test_a_whole_answer_begins_again_elsewhere_and_has_no_text_twice():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        asking = asyncio.create_task(replicas.complete(ask(tokens=10)))
        await asyncio.sleep(0.055)
        starts.latest(0).kill()
        answer = await asking
        assert (answer.text, answer.usage.completion_tokens, answer.finish_reason) == ("x" * 10, 10, "length")

    run(test)


async def kill_in_a_row(starts: Starts, count: int, after_s: float = 0.0) -> None:
    """Kill the replica that has the only request, so long after it has got it, so many times."""
    for _ in range(count):
        while not (busy := [engine for _, engine in starts.engines if engine.running]):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await asyncio.sleep(after_s)
        busy[0].kill()
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("count", [4, 2])
def test_a_request_is_answered_though_four_replicas_are_lost_in_a_row(count):
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        asking = asyncio.create_task(streamed(replicas, ask(tokens=3)))
        await kill_in_a_row(starts, 4)
        assert await asking == "xxx"

    run(test, count=count)


@pytest.mark.parametrize("after_s", [0, 0.015], ids=["at once", "after a token"])
def test_a_request_that_has_lost_five_replicas_is_taken_for_the_cause(after_s):
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        asking = asyncio.create_task(replicas.complete(ask(tokens=3)))
        await kill_in_a_row(starts, MOST_LOST, after_s)
        with pytest.raises(EngineLostError, match="5 replicas of 'm' were lost one after the other") as error:
            await asking
        assert "may be the cause" in error.value.hint
        assert await streamed(replicas, ask(tokens=2)) == "xx"

    run(test, count=4)


def test_all_replicas_killed_at_once_under_load_come_back_and_answer_what_had_sent_nothing():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        asking = [asyncio.create_task(replicas.complete(ask(f"{n}", 30))) for n in range(16)]
        await asyncio.sleep(0.1)
        for _, engine in list(starts.engines):
            engine.kill()
        assert [answer.text for answer in await asyncio.gather(*asking)] == ["x" * 30] * 16

    run(test, count=3)


def test_what_a_replica_refuses_of_a_request_is_passed_on_and_is_no_loss():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        with pytest.raises(InvalidRequestError, match="too long"):
            await streamed(replicas, ask())
        assert states(replicas) == ["ready", "ready"]
        assert len(starts.engines) == 2

    run(test, source=Starts(failing(InvalidRequestError("too long"), times=9)))


def test_an_endpoint_that_fails_what_another_answers_is_taken_out_for_a_while():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        assert await streamed(replicas, ask()) == "ok"
        assert states(replicas) == ["starting", "ready"]
        await asyncio.sleep(0.2)
        assert states(replicas) == ["ready", "ready"]

    run(test, source=Starts(failing(RemoteEngineError("the endpoint answered 500"), times=1)))


def test_a_request_that_all_fail_puts_none_of_them_out():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        with pytest.raises(RemoteEngineError):
            await streamed(replicas, ask())
        assert states(replicas) == ["ready", "ready"]

    source = Starts(lambda: ScriptedEngine(lambda *_: [Fail(0.01, RemoteEngineError("answered 500"))]))
    run(test, source=source)


@pytest.mark.parametrize("error", [EndpointUnavailableError, EndpointBusyError])
def test_an_endpoint_that_is_busy_rests_as_long_as_it_says_and_is_not_lost(error):
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        busy = starts.latest(0)
        for number in range(4):
            assert await streamed(replicas, ask(f"{number}")) == "ok"
        assert len(busy.requests) == 1
        assert [(r.state, r.losses) for r in replicas.replicas()] == [("ready", 0)] * 2
        await asyncio.sleep(5)
        assert await streamed(replicas, ask("again")) == "ok"
        assert len(busy.requests) == 2

    run(test, source=Starts(failing(error("the endpoint is busy", retry_after_s=5.0), times=1)))


def test_a_later_refusal_does_not_shorten_the_rest_that_an_endpoint_has_asked_for():
    """As of a request that was there already, whose refusal says no time."""
    refusals = [
        [Fail(0.01, EndpointBusyError("busy", retry_after_s=30.0))],
        [Fail(0.5, EndpointBusyError("busy", retry_after_s=1.0))],
    ]
    scripts = iter([lambda n, _: refusals[n] if n < 2 else [Say(0.01, "ok")]])

    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        busy = starts.latest(0)
        asking = [asyncio.create_task(streamed(replicas, ask(f"{n}" * 400))) for n in range(4)]
        assert await asyncio.gather(*asking) == ["ok"] * 4
        assert len(busy.requests) == 2
        await asyncio.sleep(25)
        assert [await streamed(replicas, ask(f"later {n}")) for n in range(4)] == ["ok"] * 4
        assert len(busy.requests) == 2
        await asyncio.sleep(5)
        assert [await streamed(replicas, ask(f"then {n}")) for n in range(4)] == ["ok"] * 4
        assert len(busy.requests) > 2

    run(test, source=Starts(lambda: ScriptedEngine(next(scripts, lambda *_: [Say(0.2, "ok")]))))


def busy_at_first(times: Sequence[int]) -> Starts:
    """Engines that are busy for so many requests each, and longer by a second the later they were made."""
    made = iter(enumerate(times))

    def make() -> ScriptedEngine:
        number, n_busy = next(made)
        error = QueueFullError(f"{number} is busy", retry_after_s=3.0 + number)
        return ScriptedEngine(lambda n, _: [Fail(0.01, error) if n < n_busy else Say(0.01, "ok")])

    return Starts(make)


def test_a_request_is_tried_at_all_replicas_before_it_is_turned_away():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        assert await streamed(replicas, ask()) == "ok"
        assert [len(engine.requests) for _, engine in starts.engines] == [1] * 4
        assert states(replicas) == ["ready"] * 4

    run(test, count=4, source=busy_at_first([1, 1, 1, 0]))


def test_a_request_that_all_turn_away_is_told_the_soonest_time_to_try_again():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        with pytest.raises(QueueFullError, match=r"4 replicas of 'm' are busy; .*: 0 is busy") as error:
            await replicas.complete(ask())
        assert error.value.retry_after_s == 3.0
        assert [len(engine.requests) for _, engine in starts.engines] == [1] * 4
        assert await streamed(replicas, ask()) == "ok"

    run(test, count=4, source=busy_at_first([1] * 4))


def test_an_endpoint_that_is_lost_to_one_request_finishes_the_others():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        lost_at_second = starts.latest(0)
        long = asyncio.create_task(streamed(replicas, ask("a" * 100, 5)))
        await asyncio.sleep(0.01)
        other = asyncio.create_task(streamed(replicas, ask("b" * 100, 5)))
        await asyncio.sleep(0.01)
        assert await streamed(replicas, ask("c" * 100, 5)) == "ok"
        assert await asyncio.gather(long, other) == ["ok", "ok"]
        assert lost_at_second.closed

    scripts = iter([lambda n, _: [Say(1, "ok")] if n == 0 else [Fail(0.1, EndpointLostError("gone"))]])
    run(test, source=Starts(lambda: ScriptedEngine(next(scripts, lambda *_: [Say(1, "ok")]))))


def test_a_replica_that_hangs_gets_nothing_more_and_its_request_is_answered_when_it_is_lost():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        hung = starts.latest(1)
        hung.step_s = 1e6
        asking = [asyncio.create_task(streamed(replicas, ask(f"{n}", 5))) for n in range(2)]
        await asyncio.sleep(SILENT_S + 0.1)
        assert [r.slow for r in replicas.replicas()] == [False, True]
        for n in range(20):
            await streamed(replicas, ask(f"later {n}", 5))
        assert len(hung.requests) == 1
        hung.kill()
        assert await asyncio.gather(*asking) == ["x" * 5] * 2

    run(test)


@pytest.mark.parametrize("seed", range(10))
def test_killed_at_random_points_everything_is_answered_or_fails_at_once(seed):
    """Ten times: what had sent nothing is answered, all else ends with its error, and nothing is left."""
    randomly = random.Random(seed)

    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        loop = asyncio.get_running_loop()
        outcomes: list[tuple[str, bool]] = []
        kills: list[float] = []

        async def client(number: int) -> None:
            for turn in range(10):
                whole, got = randomly.random() < 0.5, 0
                request = ask(f"{number} asks {turn}", randomly.randint(1, 40))
                try:
                    if whole:
                        answer = await replicas.complete(request)
                        assert answer.text == "x" * (request.sampling.max_tokens or 0)
                    else:
                        async for chunk in replicas.generate(request):
                            got += len(chunk.token_ids)
                        assert got == request.sampling.max_tokens
                except EngineLostError:
                    assert got
                    assert not whole
                    assert loop.time() - kills[-1] < 3
                    outcomes.append(("failed", whole))
                else:
                    outcomes.append(("answered", whole))

        async def killer() -> None:
            for _ in range(3):
                await asyncio.sleep(randomly.uniform(0.5, 0.9))  # longer than an answer takes
                alive = [engine for _, engine in starts.engines if engine.dead is None]
                kills.append(loop.time())
                randomly.choice(alive).kill()

        await asyncio.gather(killer(), *map(client, range(12)))
        assert len(outcomes) == 120
        await asyncio.sleep(20)
        assert states(replicas) == ["ready"] * 4
        assert all(replica.running == replica.work_tokens == 0 for replica in replicas.replicas())

    run(test, count=4)


def test_what_an_endpoint_still_computes_counts_after_it_was_given_up_and_is_back():
    """vllm-project/router#197: with its load forgotten, it would get all new requests."""
    scripts = iter(
        [
            lambda n, _: (
                [Say(10.0, "long")] if n == 0 else [Fail(0.01, RemoteEngineError("it answered 500"))]
            ),
            lambda n, _: [Say(10.0, "longer")] if n == 0 else [Say(0.01, "ok")],
        ]
    )

    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        long = [asyncio.create_task(streamed(replicas, ask(f"{tokens}", tokens))) for tokens in (1000, 3000)]
        await asyncio.sleep(0.1)
        assert await streamed(replicas, ask("fails", 10)) == "ok"
        await asyncio.sleep(0.5)
        first, _ = replicas.replicas()
        assert (first.state, first.losses, first.running) == ("ready", 1, 1)
        assert first.work_tokens >= 1000
        assert await asyncio.gather(*long) == ["long", "longer"]
        assert [(replica.running, replica.work_tokens) for replica in replicas.replicas()] == [(0, 0)] * 2

    run(test, source=Starts(lambda: ScriptedEngine(next(scripts, lambda *_: [Say(0.01, "ok")]))))


def test_of_endpoints_that_are_tried_in_vain_each_rests_as_long_as_it_says():
    """BerriAI/litellm#32574: only the first of the attempts of one request was noted."""
    busy = [EndpointBusyError(f"{number} is busy", retry_after_s=5.0 + number) for number in range(2)]
    scripts = iter([*([lambda n, _, e=error: [Fail(0.01, e)]] for error in busy)])

    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        assert await streamed(replicas, ask("first", 10)) == "ok"
        tried = [len(engine.requests) for _, engine in starts.engines]
        assert tried == [1, 1, 1]
        for _ in range(8):
            assert await streamed(replicas, ask("more", 10)) == "ok"
        assert [len(engine.requests) for _, engine in starts.engines] == [1, 1, 9]
        await asyncio.sleep(5)
        await streamed(replicas, ask("when the first has rested", 10))
        assert [len(engine.requests) for _, engine in starts.engines][1] == 1

    def make() -> ScriptedEngine:
        return ScriptedEngine(next(scripts, [lambda *_: [Say(0.01, "ok")]])[0])

    run(test, count=3, source=Starts(make))
