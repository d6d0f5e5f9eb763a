"""A set of engines paced in time, on a clock that only goes on where somebody waits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from lqmf_runner.engine.replicas.replica_set import ReplicaSet
from lqmf_runner.errors import (
    EngineLostError,
)
from lqmf_runner.types import EngineStats, GenerationRequest, MemoryUse, PromptCacheUse

from ...support.engine.paced import PacedEngine, Starts
from ...support.engine.replica_sets import ask, run, streamed
from ...support.engine.scripted import run_virtual


def test_thirty_streams_on_four_replicas_are_nearly_four_times_as_fast():
    def seconds(count: int) -> float:
        async def go(clock: Callable[[], float]) -> float:
            replicas = await ReplicaSet.start("m", Starts(lambda: PacedEngine(slots=8)), count)
            began = clock()

            async def client(number: int) -> None:
                for turn in range(4):
                    await streamed(replicas, ask(f"{number} asks {turn}", 50))

            await asyncio.gather(*map(client, range(30)))
            took = clock() - began
            await replicas.close()
            return took

        return run_virtual(go)

    assert seconds(1) / seconds(4) >= 3.6


def test_forty_conversations_compute_half_the_prompt_tokens_of_round_robin():
    def computed(make: Callable[[list[PacedEngine]], Any]) -> int:
        engines = [PacedEngine(slots=16, prompt_token_s=0.001) for _ in range(4)]

        async def go(clock: Callable[[], float]) -> None:
            stream = await make(engines)
            conversations = iter(range(40))

            async def client() -> None:
                for number in conversations:
                    text = f"You are assistant number {number}, " + "and you are helpful. " * 10
                    for turn in range(6):
                        text += f" Question {turn}: " + "why is that so? " * random.Random(turn).randint(2, 8)
                        text += await stream(ask(text, 32))

            await asyncio.gather(*(client() for _ in range(8)))

        run_virtual(go)
        return sum(engine.computed for engine in engines)

    async def routed(engines: list[PacedEngine]) -> Any:
        left = iter(engines)
        replicas = await ReplicaSet.start("m", Starts(lambda: next(left)), 4)
        return lambda request: streamed(replicas, request)

    async def round_robin(engines: list[PacedEngine]) -> Any:
        sent = 0

        async def stream(request: GenerationRequest) -> str:
            nonlocal sent
            sent += 1
            return "".join([chunk.text async for chunk in engines[sent % 4].generate(request)])

        return stream

    assert computed(routed) <= 0.5 * computed(round_robin)


def test_a_conversation_stays_where_it_is_and_others_spread():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        texts = [f"conversation {number} " * 10 for number in range(4)]
        for _ in range(3):
            for number, text in enumerate(texts):
                texts[number] = text + await streamed(replicas, ask(text, 20))
        for _, engine in starts.engines:
            assert {request.prompt.split()[1] for request in engine.requests} in ({"0", "2"}, {"1", "3"})

    run(test)


def test_a_cancelled_request_leaves_its_replica():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        asking = asyncio.create_task(streamed(replicas, ask(tokens=50)))
        await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert [(r.running, r.work_tokens) for r in replicas.replicas()] == [(0, 0), (0, 0)]

    run(test)


def test_closing_ends_the_requests():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        waiting = asyncio.create_task(streamed(replicas, ask()))
        starts.latest(0).kill()
        await asyncio.sleep(0)
        await replicas.close()
        with pytest.raises(EngineLostError, match="unloaded"):
            await waiting

    run(test, count=1)


def test_sums_are_over_all_replicas():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        await asyncio.gather(*(streamed(replicas, ask(f"{n}", 2)) for n in range(6)))
        assert (await replicas.stats()).requests == 6
        assert (await replicas.memory()).rss_mb == 3 * 200.0
        assert replicas.info.max_slots == 3 * 4
        assert [(r.requests, r.output_tokens) for r in replicas.replicas()] == [(2, 4)] * 3

    run(test, count=3)


def test_a_slow_replica_is_noticed_and_gets_less():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        starts.latest(1).step_s = 0.2

        async def client(number: int) -> None:
            for turn in range(20):
                await streamed(replicas, ask(f"{number} {turn}", 10))

        await asyncio.gather(*map(client, range(4)))
        slow, others = replicas.replicas()[1], [replicas.replicas()[n] for n in (0, 2)]
        assert [slow.slow, *(other.slow for other in others)] == [True, False, False]
        assert slow.requests < min(other.requests for other in others) / 3

    run(test, count=3)


def test_a_slow_replica_that_has_become_fast_is_tried_again():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        starts.latest(1).step_s = 0.2
        await asyncio.gather(*(streamed(replicas, ask(f"{n}", 10)) for n in range(6)))
        assert [r.slow for r in replicas.replicas()] == [False, True]
        starts.latest(1).step_s = 0.01
        await asyncio.sleep(31)
        before = replicas.replicas()[1].requests
        for n in range(20):
            await asyncio.gather(*(streamed(replicas, ask(f"{n} {m}", 10)) for m in range(2)))
        assert [r.slow for r in replicas.replicas()] == [False, False]
        assert replicas.replicas()[1].requests - before == 20

    run(test)


def test_the_pace_of_a_replica_that_is_gone_makes_no_other_one_slow():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        starts.latest(1).step_s = 0.05
        await asyncio.gather(*(streamed(replicas, ask(f"{n}", 10)) for n in range(6)))
        assert [r.slow for r in replicas.replicas()] == [False, True, False]
        starts.errors[0] = starts.errors[2] = [EngineLostError("no memory")] * 9
        for number in (0, 2):
            starts.latest(number).kill()
        assert [r.slow for r in replicas.replicas()] == [False, False, False]

    run(test, count=3)


class Keeping(PacedEngine):
    """Keeps prompts in main memory."""

    kept = PromptCacheUse(limit_mb=100, mb=40, prompts=2, tokens=70, hits=1, restored_tokens=30)

    @property
    def prompt_cache(self) -> PromptCacheUse:
        return self.kept

    async def shrink_prompt_cache(self, mb: float) -> None:
        self.kept = PromptCacheUse(limit_mb=100, mb=mb)


def test_prompts_in_main_memory_are_added_up_and_shrink_together():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        assert replicas.prompt_cache == PromptCacheUse(
            limit_mb=200, mb=80, prompts=4, tokens=140, hits=2, restored_tokens=60
        )
        await replicas.shrink_prompt_cache(20)
        assert replicas.prompt_cache.mb == 20
        await replicas.shrink_prompt_cache(50)
        assert replicas.prompt_cache.mb == 20, "what is there already does not grow"

    run(test, source=Starts(Keeping))


class SlowToMeasure(PacedEngine):
    """Takes half a second to say what it uses, and what it has done."""

    async def memory(self) -> MemoryUse:
        await asyncio.sleep(0.5)
        return MemoryUse(rss_mb=200.0)

    async def stats(self) -> EngineStats:
        await asyncio.sleep(0.5)
        return EngineStats(requests=1)


def test_a_replica_that_is_lost_while_it_is_measured_uses_nothing_until_it_is_back():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        assert (await replicas.memory()).rss_mb == 400.0
        starts.errors[1] = [EngineLostError("no memory")] * 9
        reading = asyncio.create_task(replicas.memory())
        await asyncio.sleep(0.1)
        starts.latest(1).kill()
        assert (await reading).rss_mb == 200.0
        assert (await replicas.memory()).rss_mb == 200.0
        assert [replica.memory_mb for replica in replicas.replicas()] == [200.0, 0.0]

    run(test, source=Starts(SlowToMeasure))


def test_the_counters_of_a_replica_that_is_lost_while_they_are_read_count_once():
    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        assert (await replicas.stats()).requests == 2
        starts.errors[1] = [EngineLostError("no memory")] * 9
        reading = asyncio.create_task(replicas.stats())
        await asyncio.sleep(0.1)
        starts.latest(1).kill()
        assert (await reading).requests == 2
        assert (await replicas.stats()).requests == 2

    run(test, source=Starts(SlowToMeasure))


def test_clients_that_leave_at_any_moment_leave_no_load_behind():
    """vllm-project/router#215: each of them left one request counted for ever."""

    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        randomly = random.Random(7)
        asking = [asyncio.create_task(streamed(replicas, ask(f"{n}", 40))) for n in range(100)]
        for task in randomly.sample(asking, 60):
            await asyncio.sleep(randomly.random() * 0.05)
            task.cancel()
        starts.latest(0).kill()  # some wait for it, or are sent elsewhere
        waiting = [asyncio.create_task(streamed(replicas, ask(f"late {n}", 40))) for n in range(20)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*asking, *waiting, return_exceptions=True)
        await asyncio.sleep(1)
        assert [(r.state, r.running, r.work_tokens) for r in replicas.replicas()] == [("ready", 0, 0)] * 2

    run(test)


def test_requests_that_arrive_together_spread_by_their_prompts_before_anything_is_answered():
    """sgl-project/sglang#27547: prompts of 32,000 tokens with an answer of one went to one worker alone."""

    async def test(replicas: ReplicaSet, starts: Starts) -> None:
        asking = [
            asyncio.create_task(streamed(replicas, ask(f"{n} " + "long " * 25_000, 1))) for n in range(12)
        ]
        await asyncio.sleep(0.005)
        assert [replica.running for replica in replicas.replicas()] == [3] * 4
        await asyncio.gather(*asking)

    run(test, count=4, source=Starts(lambda: PacedEngine(prompt_token_s=1e-6)))
