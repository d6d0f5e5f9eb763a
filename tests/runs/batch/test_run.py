"""Which errors are retried, how long that waits, and what an item of several requests asks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lqmf_runner.errors import (
    EngineError,
    EngineLostError,
    InvalidRequestError,
    LqmfError,
    QueueFullError,
    RemoteEngineError,
    UserInputError,
)
from lqmf_runner.types import GenerationRequest, SamplingParams
from tests.support.engine.scripted import Fail, Say, ScriptedEngine
from tests.support.runs.batch import Batch, Script, echo, lines, prompt_of


def fails(times: int, error: LqmfError) -> Script:
    """The request for "question 2" fails so many times."""
    left = [times]

    def script(number: int, request: GenerationRequest) -> list[Say | Fail]:
        if prompt_of(request) == "question 2" and left[0]:
            left[0] -= 1
            return [Fail(0.0, error)]
        return echo(number, request)

    return script


def busy(retry_after_s: float | None = None) -> LqmfError:
    error = QueueFullError("busy")
    error.retry_after_s = retry_after_s  # type: ignore[assignment]
    return error


@pytest.mark.parametrize("error", [busy(), RemoteEngineError("502")])
def test_errors_that_may_pass_are_retried(batch: Batch, error: LqmfError) -> None:
    batch.input.write_text(lines(4))
    batch.script = fails(3, error)
    assert batch.run() == 0
    assert {a["line"]: a["attempts"] for a in batch.answers()} == {1: 1, 2: 4, 3: 1, 4: 1}
    assert batch.asked.count("question 2") == 4


def test_retries_come_to_an_end(batch: Batch) -> None:
    batch.input.write_text(lines(3))
    batch.script = fails(99, busy())
    assert batch.run() == 1
    (failed,) = [a for a in batch.answers() if "error" in a]
    assert (failed["line"], failed["error"], failed["attempts"]) == (2, "busy", 4)


@pytest.mark.parametrize(
    "error", [InvalidRequestError("the prompt has 9000 tokens"), EngineError("NaN in logits")]
)
def test_other_errors_are_not_retried(
    batch: Batch, error: LqmfError, capsys: pytest.CaptureFixture[str]
) -> None:
    batch.input.write_text(lines(3))
    batch.script = fails(99, error)
    assert batch.run() == 1
    assert batch.asked.count("question 2") == 1
    assert f"line 2: {error.message}" in capsys.readouterr().err


@pytest.mark.parametrize("error", [EngineLostError("killed"), UserInputError("the endpoint refused the key")])
def test_errors_that_concern_all_lines_end_the_batch(
    batch: Batch, error: LqmfError, capsys: pytest.CaptureFixture[str]
) -> None:
    batch.settings["concurrency"] = 1
    batch.input.write_text(lines(10))
    batch.script = fails(1, error)
    with pytest.raises(type(error)):
        batch.run()
    assert batch.engines[0].closed
    assert [a["line"] for a in batch.answers()] == [1]
    assert "9 left; run the same command again" in capsys.readouterr().err
    assert batch.run() == 0
    assert sorted(a["line"] for a in batch.answers()) == list(range(1, 11))


@pytest.mark.parametrize(
    ("retry_after", "waits"), [(None, 2 + 4 + 8), (5.0, 5 + 5 + 8), (300.0, 60 + 60 + 60)]
)
def test_waits_between_retries_double_or_are_what_the_endpoint_asks_for(
    retry_after: float | None, waits: float
) -> None:
    from lqmf_runner.runs.batch.input import BatchItem
    from lqmf_runner.runs.batch.lines import prompt_exchange
    from lqmf_runner.runs.batch.output import Outcome
    from lqmf_runner.runs.batch.run import BatchPlan, run_batch
    from tests.support.engine.scripted import run_virtual

    engine = ScriptedEngine(lambda *_: [Fail(0.5, busy(retry_after))])
    exchange = prompt_exchange({"prompt": "q"}, "prompt", system=None, sampling=SamplingParams())
    item = BatchItem(1, "line 1", exchange, "d")
    outcomes: list[Outcome] = []
    ended: list[float] = []

    async def go(clock: Callable[[], float]) -> None:
        plan = BatchPlan(concurrency=2, retries=3, retry_wait_s=2.0)
        await run_batch(engine, iter([item]), plan, on_outcome=lambda _, o: outcomes.append(o), clock=clock)
        ended.append(clock())

    run_virtual(go)
    assert ended == [pytest.approx(4 * 0.5 + waits)]
    assert outcomes[0].e2e_s == pytest.approx(0.5)


def test_the_choices_of_a_line_are_asked_together_and_fail_together(batch: Batch) -> None:
    batch.script = lambda number, request: (
        [Fail(0.0, EngineError("sick"))] if number == 1 else echo(number, request)
    )
    batch.write([{"messages": [{"role": "user", "content": "a"}], "n": 3}, {"prompt": "b"}])
    assert batch.run() == 1
    failed, answered = sorted(batch.answers(), key=lambda answer: answer["line"])
    assert (failed["error"], answered["response"]) == ("sick", "you said b")
    batch.script = echo
    assert batch.run() == 0
    assert batch.asked == ["a", "a", "a"]
    assert len({request.sampling.seed for request in batch.engines[-1].requests}) == 3
