"""How a router's policy changes speed and computed prompts: `python benchmarks/replicas/router_simulation.py`.

In the simulation, conversations talk to replicas of one model. Each begins with a system prompt that all share, and
each turn repeats the conversation so far. A replica computes as the engine's scheduler does: a step has one token of
each decoding request and some prompt tokens, and takes as long as was measured. The prefix-aware policy is the router's
own (`choose`).

`--check` runs the same load through the real router (`ReplicaSet`) over four engines that take the same time for their
steps on the wall clock, and prints how far the simulation is from it. It takes about a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import simpy

from lqmf_runner.engine import EngineClient
from lqmf_runner.engine.replicas.policy import Candidate, choose
from lqmf_runner.engine.replicas.replica_set import ReplicaSet
from lqmf_runner.types import (
    Chunk,
    EngineStats,
    GenerationRequest,
    MemoryUse,
    ModelInfo,
    SamplingParams,
    Score,
)

SYSTEM, TURN, ANSWER, TURNS = 256, 64, 48, 5  # tokens, and turns of a conversation
THINK_S = 1.0  # mean time between an answer and the next turn
CHUNK = 128  # prompt tokens in a step
_OWN = 1_000_000  # token ids of a conversation begin at its number times this


@dataclass(frozen=True)
class StepTimes:
    """Seconds of a step: at all, for each row that decodes, for each prompt token.

    The defaults fit steps of 1, 4, 8 and 16 rows (6.1, 17.5, 27.5 and 47.9 ms) and 480 prompt tokens a second, which
    SmolLM2-135M Q4_1 took on two CPU cores.
    """

    base: float = 0.0038
    row: float = 0.00276
    prompt: float = 0.00208

    def of(self, rows: int, prompt_tokens: int) -> float:
        """Seconds of one step."""
        return self.base + rows * self.row + prompt_tokens * self.prompt


@dataclass
class Job:
    """One request: a turn of a conversation."""

    conversation: int
    prompt: int
    began: float
    first: Callable[[], None]
    done: Callable[[], None]
    to_prefill: int = 0
    to_decode: int = ANSWER


@dataclass
class Engine:
    """A replica: its requests, its cached prompts, and what it has computed."""

    times: StepTimes
    slots: int
    waiting: list[Job] = field(default_factory=list)
    running: list[Job] = field(default_factory=list)
    cached: OrderedDict[int, int] = field(default_factory=OrderedDict)
    prefilled: int = 0

    def held(self, conversation: int, prompt: int) -> int:
        """Tokens of this prompt that are cached: of its conversation, or the system prompt of another one."""
        own = self.cached.get(conversation, 0)
        return min(max(own, SYSTEM if self.cached else 0), prompt - 1)

    def work(self) -> int:
        """Tokens that are still to be computed."""
        return sum(j.to_prefill + j.to_decode for j in self.running) + sum(
            j.prompt - self.held(j.conversation, j.prompt) + j.to_decode for j in self.waiting
        )

    def step(self) -> tuple[float, Callable[[], None]]:
        """How long the next step takes, and what is true after it."""
        while self.waiting and len(self.running) < self.slots:
            job = self.waiting.pop(0)
            job.to_prefill = job.prompt - self.held(job.conversation, job.prompt)
            self.running.append(job)
        decoding = [job for job in self.running if not job.to_prefill]
        left, prompts = CHUNK, list[tuple[Job, int]]()
        for job in self.running:
            if job.to_prefill and left:
                n = min(job.to_prefill, left)
                left -= n
                prompts.append((job, n))

        def after() -> None:
            for job, n in prompts:
                job.to_prefill -= n
                self.prefilled += n
            for job in [*decoding, *(job for job, _ in prompts if not job.to_prefill)]:
                if job.to_decode == ANSWER:
                    job.first()
                job.to_decode -= 1
                if not job.to_decode:
                    self.running.remove(job)
                    self.cached[job.conversation] = job.prompt + ANSWER
                    self.cached.move_to_end(job.conversation)
                    while len(self.cached) > self.slots:
                        self.cached.popitem(last=False)
                    job.done()

        return self.times.of(len(decoding), CHUNK - left), after


@dataclass(frozen=True)
class Result:
    """Of one run."""

    tokens_per_s: float
    ttft_p50: float
    ttft_p95: float
    prompt_tokens: int


Policy = Callable[[Sequence[Engine], int, int], int]
"""Takes the engines, the conversation and the length of its prompt; gives the index of the engine that gets it."""


def policies(seed: int) -> dict[str, Policy]:
    """By name; the simulation calls each for every request, in order of arrival."""
    rng, turn = random.Random(seed), [0]

    def round_robin(engines: Sequence[Engine], conversation: int, prompt: int) -> int:
        turn[0] += 1
        return turn[0] % len(engines)

    def prefix_aware(engines: Sequence[Engine], conversation: int, prompt: int) -> int:
        candidates = [
            Candidate(e.work(), e.held(conversation, prompt), prompts=len(e.cached)) for e in engines
        ]
        return choose(candidates, prompt, ANSWER)

    return {
        "random": lambda engines, conversation, prompt: rng.randrange(len(engines)),
        "round robin": round_robin,
        "least outstanding": lambda engines, conversation, prompt: min(
            range(len(engines)),
            key=lambda i: (len(engines[i].waiting) + len(engines[i].running), rng.random()),
        ),
        "prefix-aware": prefix_aware,
    }


def think_times(conversations: int, seed: int) -> list[list[float]]:
    """Seconds before each turn of each conversation."""
    rng = random.Random(seed)
    return [[rng.expovariate(1 / THINK_S) for _ in range(TURNS)] for _ in range(conversations)]


def simulate(
    policy: Policy, replicas: int, conversations: int, slots: int, times: StepTimes, seed: int
) -> Result:
    """One run in simulated time."""
    env = simpy.Environment()
    engines = [Engine(times, slots) for _ in range(replicas)]
    arrived = [env.event() for _ in engines]
    ttft: list[float] = []

    def replica(index: int) -> Generator[Any, Any, None]:
        engine = engines[index]
        while True:
            if not engine.waiting and not engine.running:
                arrived[index] = env.event()
                yield arrived[index]
            seconds, after = engine.step()
            yield env.timeout(seconds)
            after()

    def conversation(number: int, thinks: Sequence[float]) -> Generator[Any, Any, None]:
        prompt = SYSTEM
        for think in thinks:
            yield env.timeout(think)
            prompt += TURN
            index, began, done = policy(engines, number, prompt), env.now, env.event()
            engines[index].waiting.append(
                Job(number, prompt, began, lambda b=began: ttft.append(env.now - b), done.succeed)
            )
            if not arrived[index].triggered:
                arrived[index].succeed()
            yield done
            prompt += ANSWER

    for index in range(replicas):
        env.process(replica(index))
    talks = [
        env.process(conversation(n, thinks)) for n, thinks in enumerate(think_times(conversations, seed))
    ]
    env.run(simpy.AllOf(env, talks))
    return _result(ttft, conversations, env.now, sum(engine.prefilled for engine in engines))


def _result(ttft: list[float], conversations: int, seconds: float, prefilled: int) -> Result:
    cuts = statistics.quantiles(ttft, n=20)
    return Result(conversations * TURNS * ANSWER / seconds, statistics.median(ttft), cuts[-1], prefilled)


class PacedEngine(EngineClient):
    """An `Engine` whose steps take their time on the wall clock and no processor."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.info = ModelInfo(
            name="paced", format="", method="", architecture="", bits=0, bits_per_weight=0, parameters=0, size_mb=0,
            weight_bytes=0, n_ctx=0, n_vocab=0, max_slots=engine.slots, device="", dtype="", chat_template=False,
        )  # fmt: skip
        self._work = asyncio.create_task(self._run())
        self._arrived = asyncio.Event()

    async def _run(self) -> None:
        clock, due = asyncio.get_running_loop(), 0.0
        while True:
            if not self.engine.waiting and not self.engine.running:
                self._arrived.clear()
                await self._arrived.wait()
                due = clock.time()
            seconds, after = self.engine.step()
            due += seconds  # a late wake-up does not make the next step late too
            await asyncio.sleep(due - clock.time())
            after()

    async def stream(
        self, request: GenerationRequest, *, whole: bool = False
    ) -> AsyncGenerator[list[Chunk], None]:
        tokens = request.prompt_tokens or ()
        first, done = asyncio.Event(), asyncio.Event()
        self.engine.waiting.append(Job(tokens[SYSTEM] // _OWN, len(tokens), 0.0, first.set, done.set))
        self._arrived.set()
        await first.wait()
        yield [Chunk(token_ids=(0,))]
        await done.wait()
        yield [Chunk(token_ids=tuple(range(ANSWER - 1)), finish_reason="length")]

    async def score(self, tokens: Any, *, top: int = 0) -> Score:
        raise NotImplementedError

    async def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        raise NotImplementedError

    async def detokenize(self, tokens: Any) -> str:
        raise NotImplementedError

    async def stats(self) -> EngineStats:
        return EngineStats()

    async def memory(self) -> MemoryUse:
        return MemoryUse()

    async def close(self) -> None:
        self._work.cancel()


class _Paced:
    most, all_needed = None, True

    def __init__(self, times: StepTimes, slots: int) -> None:
        self.engines: list[Engine] = []
        self._times, self._slots = times, slots

    async def start(self, number: int, on_progress: Any) -> EngineClient:
        self.engines.append(Engine(self._times, self._slots))
        return PacedEngine(self.engines[-1])


async def run_router(replicas: int, conversations: int, slots: int, times: StepTimes, seed: int) -> Result:
    """The same load through the real router, on the wall clock."""
    source, ttft, loop = _Paced(times, slots), list[float](), asyncio.get_running_loop()
    async with await ReplicaSet.start("paced", source, replicas) as router:
        began = loop.time()

        async def conversation(number: int, thinks: Sequence[float]) -> None:
            tokens = list(range(SYSTEM))
            for think in thinks:
                await asyncio.sleep(think)
                at = len(tokens)
                tokens += [number * _OWN + i for i in range(at, at + TURN)]
                sent, first = loop.time(), True
                sampling = SamplingParams(max_tokens=ANSWER)
                async for _ in router.stream(
                    GenerationRequest(prompt_tokens=tuple(tokens), sampling=sampling)
                ):
                    if first:
                        ttft.append(loop.time() - sent)
                        first = False
                tokens += [number * _OWN + i for i in range(len(tokens), len(tokens) + ANSWER)]

        await asyncio.gather(
            *(conversation(n, thinks) for n, thinks in enumerate(think_times(conversations, seed)))
        )
        seconds = loop.time() - began
    return _result(ttft, conversations, seconds, sum(engine.prefilled for engine in source.engines))


def _row(name: str, result: Result) -> str:
    return (
        f"| {name} | {result.tokens_per_s:,.0f} | {result.ttft_p50 * 1e3:,.0f} | {result.ttft_p95 * 1e3:,.0f} "
        f"| {result.prompt_tokens:,} |"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replicas", type=int, nargs="+", default=[4, 10, 100])
    parser.add_argument("--per-replica", type=int, default=10, help="conversations for each replica")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="run four replicas on the wall clock too")
    args = parser.parse_args()
    times = StepTimes()
    for replicas in args.replicas:
        conversations = replicas * args.per_replica
        print(f"\n{replicas} replicas, {conversations} conversations of {TURNS} turns\n")
        print(
            "| policy | output tok/s | TTFT p50 ms | TTFT p95 ms | prompt tokens computed |\n|---|---|---|---|---|"
        )
        for name, policy in policies(args.seed).items():
            print(
                _row(name, simulate(policy, replicas, conversations, args.slots, times, args.seed)),
                flush=True,
            )
    if args.check:
        load = (4, 4 * args.per_replica, args.slots, times, args.seed)
        real, simulated = asyncio.run(run_router(*load)), simulate(policies(args.seed)["prefix-aware"], *load)
        print("\nthe real router over four paced engines, and the simulation of it\n")
        print(
            "| | output tok/s | TTFT p50 ms | TTFT p95 ms | prompt tokens computed |\n|---|---|---|---|---|"
        )
        print(_row("real", real) + "\n" + _row("simulated", simulated))
        errors = [
            f"{name} {getattr(simulated, name) / getattr(real, name) - 1:+.1%}"
            for name in ("tokens_per_s", "ttft_p50", "ttft_p95", "prompt_tokens")
        ]
        print("\nerror of the simulation: " + ", ".join(errors))


if __name__ == "__main__":
    main()
