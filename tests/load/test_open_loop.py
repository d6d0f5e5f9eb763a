"""Open loops and ramps against an engine whose timings are known, on a clock that is not real."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable

import pytest

from lqmf_runner.config import Prompt, PromptsConfig
from lqmf_runner.errors import EngineLostError, UserInputError
from lqmf_runner.load.metrics import Objectives, load_result
from lqmf_runner.load.open_loop import OpenLoop
from lqmf_runner.load.ramp import Ramp, is_sustained
from lqmf_runner.load.run import LoadLog, run_load
from lqmf_runner.results.schema import RampResult, RequestRecord
from lqmf_runner.types import GenerationRequest, SamplingParams
from tests.support.scripted import Fail, QueueEngine, Say, ScriptedEngine, planned, run_virtual

PROMPTS = PromptsConfig(name="t", entries=[Prompt(id=f"p{n}", prompt=f"question {n}") for n in range(3)])
TALK = PromptsConfig(name="talk", entries=[Prompt(id="t", turns=["hi", "bye"])])
GREEDY = SamplingParams(temperature=0.0)
Clock = Callable[[], float]


def simple(_: int, __: GenerationRequest) -> list[Say | Fail]:
    return [Say(0.2, "a"), Say(0.1, "b"), Say(0.1, "c")]


def run(
    engine: ScriptedEngine,
    loop: OpenLoop,
    requests: int,
    prompts: PromptsConfig = PROMPTS,
    log: LoadLog | None = None,
) -> LoadLog:
    async def go(clock: Clock) -> LoadLog:
        conversations = planned(prompts, requests)
        return await run_load(engine, loop, conversations, GREEDY, log=log, clock=clock)

    return run_virtual(go)


def test_constant_arrivals_do_not_wait_for_answers() -> None:
    engine = ScriptedEngine(lambda *_: [Say(1.0, "x")])
    log = run(engine, OpenLoop(5.0, "constant"), 8)
    assert [r.due_s for r in log.records] == pytest.approx([n / 5 for n in range(8)])
    assert [r.sent_s for r in log.records] == pytest.approx([n / 5 for n in range(8)])
    assert [r.e2e_s for r in log.records] == pytest.approx([1.0] * 8)
    assert engine.most_running == 5
    assert log.duration_s == pytest.approx(7 / 5 + 1.0)
    assert {r.load for r in log.records} == {"constant5"}


def test_bursts_arrive_together_at_the_mean_rate() -> None:
    due = list(itertools.islice(OpenLoop(2.0, "burst", burst=4).arrivals(), 12))
    assert due == pytest.approx([0.0] * 4 + [2.0] * 4 + [4.0] * 4)
    engine = ScriptedEngine(simple)
    run(engine, OpenLoop(2.0, "burst", burst=4), 8)
    assert engine.most_running == 4


def test_poisson_arrivals_are_a_poisson_process() -> None:
    """Of 20,000 gaps the mean, the spread and the share below several bounds are an exponential distribution's, within
    four standard errors; the numbers of arrivals in windows of 1 s have variance = mean; same seed, same arrivals."""
    rate, n = 5.0, 20_000
    due = list(itertools.islice(OpenLoop(rate, "poisson", seed=1).arrivals(), n))
    gaps = [after - before for before, after in itertools.pairwise([0.0, *due])]
    assert abs(statistics.fmean(gaps) - 1 / rate) < 4 / rate / math.sqrt(n)
    assert statistics.pstdev(gaps) == pytest.approx(1 / rate, rel=4 * math.sqrt(2 / n))
    for bound in (0.02, 0.1, 0.2, 0.5, 1.0):
        share = 1 - math.exp(-rate * bound)
        error = math.sqrt(share * (1 - share) / n)
        assert abs(sum(gap <= bound for gap in gaps) / n - share) < 4 * error
    windows = [0] * int(due[-1])
    for at in due:
        if at < len(windows):
            windows[int(at)] += 1
    dispersion = statistics.variance(windows) / statistics.fmean(windows)
    assert abs(dispersion - 1) < 4 * math.sqrt(2 / len(windows))
    # Neighbouring gaps know nothing of each other.
    assert abs(statistics.correlation(gaps[:-1], gaps[1:])) < 4 / math.sqrt(n)
    again = list(itertools.islice(OpenLoop(rate, "poisson", seed=1).arrivals(), 5))
    other = list(itertools.islice(OpenLoop(rate, "poisson", seed=2).arrivals(), 5))
    assert again == due[:5] != other


def test_a_request_is_timed_from_when_it_was_due() -> None:
    """3 s pass in which the load generator does not run: who was due then has waited."""
    engine = ScriptedEngine(simple)
    stalled = {"s": 0.0}

    async def go(clock: Clock) -> LoadLog:
        def late_clock() -> float:
            return clock() + stalled["s"]

        def stall(number: int, request: GenerationRequest) -> list[Say | Fail]:
            if number == 0:
                stalled["s"] = 3.0
            return simple(number, request)

        engine._script = stall
        conversations = planned(PROMPTS, 3)
        return await run_load(engine, OpenLoop(1.0, "constant"), conversations, GREEDY, clock=late_clock)

    records = sorted(run_virtual(go).records, key=lambda r: r.due_s or 0.0)
    assert [r.due_s for r in records] == [0.0, 1.0, 2.0]
    assert [r.sent_s for r in records[1:]] == pytest.approx([4.0, 4.0])
    assert [r.ttft_s for r in records[1:]] == pytest.approx([3.2, 2.2])
    assert [r.e2e_s for r in records[1:]] == pytest.approx([3.4, 2.4])
    assert records[1].itl_s == pytest.approx([0.1, 0.1])


def test_queueing_shows_in_an_open_loop() -> None:
    """One server, 1 s a request, 2 arrivals a second: the n-th waits n/2 s (a closed loop would always say 1 s)."""
    log = run(QueueEngine(1.0), OpenLoop(2.0, "constant"), 6)
    assert [r.ttft_s for r in log.records] == pytest.approx([1.0 + n / 2 for n in range(6)])


def test_after_the_duration_nothing_arrives_and_what_runs_is_waited_for() -> None:
    engine = ScriptedEngine(lambda *_: [Say(5.0, "x")])
    log = run(engine, OpenLoop(2.0, "constant", duration_s=3.0), 1000)
    assert len(engine.requests) == 6
    assert [r.error for r in log.records] == [None] * 6
    assert log.duration_s == pytest.approx(7.5)


def test_later_turns_follow_the_answer_and_are_timed_from_when_they_are_sent() -> None:
    log = run(ScriptedEngine(simple), OpenLoop(1.0, "constant"), 4, TALK)
    assert [(r.turn, r.due_s) for r in log.records] == [(0, 0.0), (1, None), (0, 1.0), (1, None)]
    assert [r.sent_s for r in log.records] == pytest.approx([0.0, 0.4, 1.0, 1.4])
    assert [r.ttft_s for r in log.records] == pytest.approx([0.2] * 4)


def test_a_lost_engine_ends_the_load() -> None:
    engine, log = ScriptedEngine(lambda *_: [Fail(0.25, EngineLostError("killed"))]), LoadLog()
    with pytest.raises(EngineLostError, match="killed"):
        run(engine, OpenLoop(10.0, "constant"), 1000, log=log)
    assert len(engine.requests) == 3  # at 0, 0.1 and 0.2 s


@pytest.mark.parametrize("loop", [{"rate": 0.0}, {"rate": -1.0}, {"rate": math.inf}, {"rate": math.nan},
                                  {"rate": 1.0, "burst": 0}])  # fmt: skip
def test_loops_that_cannot_be_run_are_refused(loop: dict[str, float]) -> None:
    with pytest.raises(UserInputError):
        OpenLoop(**loop)  # type: ignore[arg-type]


def climb(ramp: Ramp, service_s: float, servers: int = 1) -> list[float]:
    """Run a ramp against a queue and return the rates it tried."""
    tried = []
    for step in ramp.steps():
        log = run(QueueEngine(service_s, servers), step, 100_000)
        assert all(r.load == f"ramp{step.rate:g}" for r in log.records)
        ramp.judge(step, log.records, Objectives())
        tried.append(step.rate)
    return tried


@pytest.mark.parametrize(("service_s", "servers"), [(0.5, 1), (1.0, 8), (0.1, 2), (2.0, 1)])
def test_a_ramp_finds_the_capacity_of_a_queue(service_s: float, servers: int) -> None:
    capacity = servers / service_s
    ramp = Ramp(start=capacity / 4, step_s=6.0, refine=3)
    tried = climb(ramp, service_s, servers)
    low, high = ramp.result.sustained_rps, ramp.result.saturated_rps
    assert low is not None
    assert high is not None
    # By the definition a step may fall behind by a tenth.
    assert 0.9 * capacity < low <= capacity / 0.9 + 0.05 * capacity
    assert high > capacity
    assert high / low < 1.06  # 1.5 halved three times on a logarithmic scale
    assert len(tried) == len(set(tried))


def test_a_ramp_that_never_saturates_says_so_and_one_that_begins_too_high_too() -> None:
    fast = Ramp(start=1.0, max_rate=2.0)
    assert climb(fast, 0.01) == [1.0, 1.5, 2.0]
    assert fast.result == RampResult(2.0, None)
    slow = Ramp(start=8.0)
    assert climb(slow, 1.0) == [8.0]
    assert slow.result == RampResult(None, 8.0)


@pytest.mark.parametrize("answer_s", [3.0, 10.0, 30.0])
def test_answers_that_take_longer_than_a_step_do_not_look_like_saturation(answer_s: float) -> None:
    """An engine without limits sustains every rate, however long each of its answers takes."""
    ramp = Ramp(start=8.0, max_rate=20.0, step_s=10.0)
    tried = climb(ramp, answer_s, servers=10_000)
    assert ramp.result == RampResult(20.0, None)
    assert len(tried) <= 5  # 8, 12, 18 and 20, the first of them twice where 10 s were too short


def test_a_step_that_was_too_short_to_tell_is_done_again_once() -> None:
    """One server that takes 10 s an answer cannot serve 8 a second, however long one looks."""
    ramp = Ramp(start=8.0)
    assert climb(ramp, 10.0) == [8.0, 8.0]
    assert ramp.result == RampResult(None, 8.0)


@pytest.mark.parametrize("limits", [{"start": 8.0, "max_rate": 12.34}, {"start": 1000.0, "max_rate": 1024.0},
                                    {"start": 1.0, "factor": 1.01, "max_rate": 1.05}])  # fmt: skip
def test_a_ramp_ends_at_its_highest_rate(limits: dict[str, float]) -> None:
    ramp = Ramp(**limits)  # type: ignore[arg-type]
    tried = climb(ramp, 0.001, servers=100)
    assert tried[-1] == limits["max_rate"]
    assert tried == sorted(set(tried))


def record(due: float, e2e: float, **values: object) -> RequestRecord:
    return RequestRecord(
        model="m", load="ramp", prompt_id="p", turn=0, user=0, due_s=due, e2e_s=e2e, ttft_s=e2e, **values  # type: ignore[arg-type]
    )  # fmt: skip


def test_failures_and_missed_objectives_are_not_sustained() -> None:
    steady = [record(n / 4, 0.2) for n in range(40)]
    assert is_sustained(steady, 10.0, Objectives())
    assert is_sustained(steady, 10.0, Objectives(ttft_s=0.3))
    assert not is_sustained(steady, 10.0, Objectives(ttft_s=0.1))
    slow = [record(n / 4, 0.5 if n % 8 == 0 else 0.2) for n in range(40)]  # 5 of 40 are late
    assert not is_sustained(slow, 10.0, Objectives(ttft_s=0.3))
    assert is_sustained(slow, 10.0, Objectives())
    failed = [*steady[1:], record(9.9, 0.1, error="QueueFullError: busy")]
    assert not is_sustained(failed, 10.0, Objectives())
    assert not is_sustained([], 10.0, Objectives())


def test_a_queue_that_grows_by_a_sixth_is_not_sustained() -> None:
    """Arrivals at 6/s, service at 5/s: of the 30 that arrive in the second half, 25 leave in it."""
    growing = [record(n / 6, (n + 1) / 5 - n / 6) for n in range(60)]
    assert not is_sustained(growing, 10.0, Objectives())
    barely = [record(n / 6, (n + 1) / 5.7 - n / 6) for n in range(60)]  # 28.5 of 30
    assert is_sustained(barely, 10.0, Objectives())


@pytest.mark.parametrize("wrong", [{"start": 0.0}, {"start": 1.0, "factor": 1.0}, {"start": 1.0, "factor": 1.004},
                                   {"start": 9.0, "max_rate": 8.0},
                                   {"start": 1.0, "step_s": 0.0}, {"start": 1.0, "refine": -1}])  # fmt: skip
def test_ramps_that_cannot_be_run_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserInputError, match=r"mode\.ramp\."):
        Ramp(**wrong)  # type: ignore[arg-type]


def test_metrics_of_an_open_loop_count_the_time_until_the_last_answer() -> None:
    log = run(ScriptedEngine(simple), OpenLoop(10.0, "constant"), 11)
    result = load_result(OpenLoop(10.0, "constant").shape, log.records, log.duration_s)
    assert result.duration_s == pytest.approx(1.4)
    assert result.requests_per_s == pytest.approx(11 / 1.4)
    assert (result.shape.kind, result.shape.rate, result.shape.concurrency) == ("constant", 10.0, None)
