"""Closed loops against an engine whose timings are known to the microsecond."""

from __future__ import annotations

import pytest

from lqmf_runner.load.closed_loop import ClosedLoop
from lqmf_runner.load.metrics import load_result
from lqmf_runner.types import GenerationRequest
from tests.support.engine.loads import run_shape, simple
from tests.support.engine.scripted import Fail, Say, ScriptedEngine


def test_concurrency_is_held_and_prompts_cycle() -> None:
    engine = ScriptedEngine(simple)
    log = run_shape(engine, ClosedLoop(4), 10)
    assert engine.most_running == 4
    assert len(log.records) == 10
    assert log.duration_s == pytest.approx(3 * 0.4)  # 4 + 4 + 2 requests
    assert [r.messages[-1].content for r in engine.requests if r.messages][:4] == [
        "question 0", "question 1", "question 2", "question 0",
    ]  # fmt: skip
    result = load_result(ClosedLoop(4).shape, log.records, log.duration_s)
    assert result.output_tokens_per_s == pytest.approx(30 / 1.2)
    assert result.requests_per_s == pytest.approx(10 / 1.2)


def test_a_user_sends_its_next_request_only_after_its_answer() -> None:
    def uneven(number: int, _: GenerationRequest) -> list[Say | Fail]:
        return [Say(1.0 if number == 0 else 0.1, "x")]

    log = run_shape(ScriptedEngine(uneven), ClosedLoop(2), 5)
    assert [r.user for r in log.records] == [1, 1, 1, 1, 0]
    assert log.duration_s == pytest.approx(1.0)


def test_after_the_duration_nothing_is_sent_and_what_runs_is_waited_for() -> None:
    log = run_shape(ScriptedEngine(simple), ClosedLoop(2, duration_s=1.0), 1000)
    assert [r.sent_s for r in log.records] == pytest.approx([0.0, 0.0, 0.4, 0.4, 0.8, 0.8])
    assert log.duration_s == pytest.approx(1.2)
