"""The load generator against an engine whose timings are known to the microsecond."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from lqmf_runner.config import Prompt, PromptsConfig
from lqmf_runner.errors import EngineError, EngineLostError, InvalidRequestError
from lqmf_runner.load.closed_loop import ClosedLoop
from lqmf_runner.load.metrics import load_result
from lqmf_runner.load.run import LoadLog, run_load
from lqmf_runner.types import GenerationRequest, SamplingParams
from tests.support.engine.loads import PROMPTS, run_shape, simple
from tests.support.engine.scripted import Fail, Say, ScriptedEngine, planned, run_virtual

GREEDY = SamplingParams(temperature=0.0)
Clock = Callable[[], float]


def test_timings_of_one_user_are_exact() -> None:
    log = run_shape(ScriptedEngine(simple), ClosedLoop(1), 3)
    assert [r.prompt_id for r in log.records] == ["p0", "p1", "p2"]
    assert log.duration_s == pytest.approx(1.2)
    for number, record in enumerate(log.records):
        assert record.sent_s == pytest.approx(0.4 * number)
        assert record.ttft_s == pytest.approx(0.2)
        assert record.e2e_s == pytest.approx(0.4)
        assert record.itl_s == pytest.approx([0.1, 0.1])
        assert record.tpot_s == pytest.approx(0.1)
        assert (record.text, record.output_tokens, record.prompt_tokens) == ("abc", 3, 10)
        assert (record.finish_reason, record.error, record.load) == ("stop", None, "c1")


def test_first_empty_chunk_is_not_the_first_content() -> None:
    log = run_shape(ScriptedEngine(lambda *_: [Say(0.1, ""), Say(0.2, "é"), Say(0.3, "")]), ClosedLoop(1), 1)
    assert log.records[0].ttft_s == pytest.approx(0.3)
    assert log.records[0].e2e_s == pytest.approx(0.6)
    assert log.records[0].itl_s == []
    assert log.records[0].tpot_s == pytest.approx(0.15)


def test_a_chunk_of_several_tokens_counts_as_as_many_gaps() -> None:
    log = run_shape(
        ScriptedEngine(lambda *_: [Say(0.1, "a"), Say(0.3, "bcd", 3), Say(0.1, ""), Say(0.1, "e")]),
        ClosedLoop(1),
        1,
    )
    assert log.records[0].itl_s == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.1])


def test_an_answer_without_content_has_no_ttft() -> None:
    log = run_shape(ScriptedEngine(lambda *_: [Say(0.1, "")]), ClosedLoop(1), 1)
    assert log.records[0].error is None
    assert log.records[0].ttft_s is None
    assert load_result(ClosedLoop(1).shape, log.records, 1.0).ttft_s.mean is None


def test_failures_count_in_the_success_rate_only() -> None:
    def script(number: int, request: GenerationRequest) -> list[Say | Fail]:
        return (
            [Say(0.1, "x"), Fail(5.0, EngineError("out of luck"))] if number == 1 else simple(number, request)
        )

    log = run_shape(ScriptedEngine(script), ClosedLoop(1), 4)
    result = load_result(ClosedLoop(1).shape, log.records, log.duration_s)
    assert (result.requests, result.succeeded, result.success_rate) == (4, 3, 0.75)
    assert result.ttft_s.p99 == pytest.approx(0.2)
    assert result.e2e_s.p99 == pytest.approx(0.4)
    assert result.output_tokens == 9
    assert log.records[1].error == "EngineError: out of luck"
    assert log.records[1].text == "x"


def test_a_stream_that_just_stops_is_a_failure() -> None:
    class Broken(ScriptedEngine):
        async def stream(self, request, *, whole=False):  # type: ignore[no-untyped-def]
            async for chunks in super().stream(request):
                if chunks[-1].finish_reason is None:
                    yield chunks

    log = run_shape(Broken(simple), ClosedLoop(1), 1)
    assert log.records[0].error is not None
    assert "ended early" in log.records[0].error


def test_a_lost_engine_ends_the_load_and_keeps_what_was_done() -> None:
    def script(number: int, request: GenerationRequest) -> list[Say | Fail]:
        # The first two answer; then the engine dies at 0.5 s under both users.
        return (
            simple(number, request) if number < 2 else [Say(0.05, "x"), Fail(0.05, EngineLostError("killed"))]
        )

    engine, log = ScriptedEngine(script), LoadLog()
    with pytest.raises(EngineLostError, match="killed"):
        run_shape(engine, ClosedLoop(2), 20, log=log)
    assert len(engine.requests) == 4
    assert [r.error for r in log.records] == [None, None, *["EngineLostError: killed"] * 2]
    assert log.duration_s == pytest.approx(0.5)


def test_cancelling_keeps_what_had_ended() -> None:
    engine, log = ScriptedEngine(simple), LoadLog()

    async def go(clock: Clock) -> None:
        load = run_load(engine, ClosedLoop(2), planned(PROMPTS, 20), GREEDY, log=log, clock=clock)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(load, 1.0)

    run_virtual(go)
    assert len(log.records) == 4
    assert all(r.error is None for r in log.records)
    assert engine.running == 0
    assert log.duration_s == pytest.approx(0.8)


TALK = PromptsConfig(
    name="talk", system="Be kind.", entries=[Prompt(id="t", turns=["hi", "and then?", "bye"])]
)


def test_turns_carry_the_models_own_answers() -> None:
    engine = ScriptedEngine(simple)
    log = run_shape(engine, ClosedLoop(1), 3, TALK)
    said = [[(m.role, m.content) for m in r.messages or ()] for r in engine.requests]
    assert said[0] == [("system", "Be kind."), ("user", "hi")]
    assert said[2] == [
        ("system", "Be kind."), ("user", "hi"), ("assistant", "abc"),
        ("user", "and then?"), ("assistant", "abc"), ("user", "bye"),
    ]  # fmt: skip
    assert [r.turn for r in log.records] == [0, 1, 2]


def test_a_failed_turn_ends_its_conversation() -> None:
    def script(number: int, request: GenerationRequest) -> list[Say | Fail]:
        return [Fail(0.0, InvalidRequestError("too long"))] if number == 1 else simple(number, request)

    log = run_shape(ScriptedEngine(script), ClosedLoop(1), 6, TALK)
    assert [(r.turn, r.error is None) for r in log.records] == [
        (0, True),
        (1, False),
        (0, True),
        (1, True),
        (2, True),
    ]
