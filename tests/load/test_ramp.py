"""Ramps against an engine of known capacity, on a clock that is not real."""

from __future__ import annotations

import pytest

from lqmf_runner.errors import UserInputError
from lqmf_runner.load.metrics import Objectives
from lqmf_runner.load.ramp import Ramp, is_sustained
from lqmf_runner.results.schema import RampResult, RequestRecord
from tests.support.engine.loads import run_shape
from tests.support.engine.scripted import QueueEngine


def climb(ramp: Ramp, service_s: float, servers: int = 1) -> list[float]:
    """Run a ramp against a queue and return the rates it tried."""
    tried = []
    for step in ramp.steps():
        log = run_shape(QueueEngine(service_s, servers), step, 100_000)
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
