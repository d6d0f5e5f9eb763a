"""Open loops against an engine whose timings are known, on a clock that is not real."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable

import pytest

from lqmf_runner.config import Prompt, PromptsConfig
from lqmf_runner.errors import EngineLostError, UserInputError
from lqmf_runner.load.metrics import load_result
from lqmf_runner.load.open_loop import OpenLoop
from lqmf_runner.load.run import LoadLog, run_load
from lqmf_runner.types import GenerationRequest, SamplingParams
from tests.support.engine.loads import PROMPTS, run_shape, simple
from tests.support.engine.scripted import Fail, QueueEngine, Say, ScriptedEngine, planned, run_virtual

TALK = PromptsConfig(name="talk", entries=[Prompt(id="t", turns=["hi", "bye"])])


def test_constant_arrivals_do_not_wait_for_answers() -> None:
    engine = ScriptedEngine(lambda *_: [Say(1.0, "x")])
    log = run_shape(engine, OpenLoop(5.0, "constant"), 8)
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
    run_shape(engine, OpenLoop(2.0, "burst", burst=4), 8)
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

    async def go(clock: Callable[[], float]) -> LoadLog:
        def late_clock() -> float:
            return clock() + stalled["s"]

        def stall(number: int, request: GenerationRequest) -> list[Say | Fail]:
            if number == 0:
                stalled["s"] = 3.0
            return simple(number, request)

        engine._script = stall
        conversations = planned(PROMPTS, 3)
        return await run_load(
            engine,
            OpenLoop(1.0, "constant"),
            conversations,
            SamplingParams(temperature=0.0),
            clock=late_clock,
        )

    records = sorted(run_virtual(go).records, key=lambda r: r.due_s or 0.0)
    assert [r.due_s for r in records] == [0.0, 1.0, 2.0]
    assert [r.sent_s for r in records[1:]] == pytest.approx([4.0, 4.0])
    assert [r.ttft_s for r in records[1:]] == pytest.approx([3.2, 2.2])
    assert [r.e2e_s for r in records[1:]] == pytest.approx([3.4, 2.4])
    assert records[1].itl_s == pytest.approx([0.1, 0.1])


def test_queueing_shows_in_an_open_loop() -> None:
    """One server, 1 s a request, 2 arrivals a second: the n-th waits n/2 s (a closed loop would always say 1 s)."""
    log = run_shape(QueueEngine(1.0), OpenLoop(2.0, "constant"), 6)
    assert [r.ttft_s for r in log.records] == pytest.approx([1.0 + n / 2 for n in range(6)])


def test_after_the_duration_nothing_arrives_and_what_runs_is_waited_for() -> None:
    engine = ScriptedEngine(lambda *_: [Say(5.0, "x")])
    log = run_shape(engine, OpenLoop(2.0, "constant", duration_s=3.0), 1000)
    assert len(engine.requests) == 6
    assert [r.error for r in log.records] == [None] * 6
    assert log.duration_s == pytest.approx(7.5)


def test_later_turns_follow_the_answer_and_are_timed_from_when_they_are_sent() -> None:
    log = run_shape(ScriptedEngine(simple), OpenLoop(1.0, "constant"), 4, TALK)
    assert [(r.turn, r.due_s) for r in log.records] == [(0, 0.0), (1, None), (0, 1.0), (1, None)]
    assert [r.sent_s for r in log.records] == pytest.approx([0.0, 0.4, 1.0, 1.4])
    assert [r.ttft_s for r in log.records] == pytest.approx([0.2] * 4)


def test_a_lost_engine_ends_the_load() -> None:
    engine, log = ScriptedEngine(lambda *_: [Fail(0.25, EngineLostError("killed"))]), LoadLog()
    with pytest.raises(EngineLostError, match="killed"):
        run_shape(engine, OpenLoop(10.0, "constant"), 1000, log=log)
    assert len(engine.requests) == 3  # at 0, 0.1 and 0.2 s


@pytest.mark.parametrize("loop", [{"rate": 0.0}, {"rate": -1.0}, {"rate": math.inf}, {"rate": math.nan},
                                  {"rate": 1.0, "burst": 0}])  # fmt: skip
def test_loops_that_cannot_be_run_are_refused(loop: dict[str, float]) -> None:
    with pytest.raises(UserInputError):
        OpenLoop(**loop)  # type: ignore[arg-type]


def test_metrics_of_an_open_loop_count_the_time_until_the_last_answer() -> None:
    log = run_shape(ScriptedEngine(simple), OpenLoop(10.0, "constant"), 11)
    result = load_result(OpenLoop(10.0, "constant").shape, log.records, log.duration_s)
    assert result.duration_s == pytest.approx(1.4)
    assert result.requests_per_s == pytest.approx(11 / 1.4)
    assert (result.shape.kind, result.shape.rate, result.shape.concurrency) == ("constant", 10.0, None)
