"""mode=batch with scripted engines, and as a process that is killed."""

from __future__ import annotations

import functools
import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lqmf_runner.config import SamplingConfig
from lqmf_runner.errors import (
    EngineError,
    EngineLostError,
    InvalidRequestError,
    LqmfError,
    QueueFullError,
    RemoteEngineError,
    UserInputError,
)
from lqmf_runner.results.files import read_requests, read_results
from lqmf_runner.results.schema import Shape
from lqmf_runner.types import GenerationRequest, ModelSpec, SamplingParams
from tests.support.batch import Batch, Script, echo, prompt_of
from tests.support.endpoint import serve
from tests.support.scripted import Fail, Say, ScriptedEngine

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    return Batch(tmp_path)


def lines(n: int) -> str:
    return "".join(f"question {i}\n" for i in range(1, n + 1))


def test_every_line_is_answered_once(batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    batch.input.write_text(lines(20))
    assert batch.run() == 0
    answers = sorted(batch.answers(), key=lambda a: a["line"])
    assert [(a["line"], a["prompt"], a["response"]) for a in answers] == [
        (n, f"question {n}", f"you said question {n}") for n in range(1, 21)
    ]
    first = answers[0]
    assert (first["model"], first["finish_reason"], first["output_tokens"], first["prompt_tokens"]) == (
        "a", "stop", 2, 10,
    )  # fmt: skip
    assert batch.engines[0].most_running == 8
    assert batch.engines[0].closed
    results = read_results(batch.run_dir)
    (load,) = results.models[0].loads
    assert (results.run.mode, results.run.status) == ("batch", "complete")
    assert results.run.finished_at is not None
    assert len({record.prompt_id for record in read_requests(batch.run_dir)}) == 20
    assert (load.shape, load.requests, load.output_tokens) == (Shape("closed", 8), 20, 40)
    assert (batch.run_dir / "report.html").exists()
    shown = capsys.readouterr()
    assert shown.out.strip() == str(batch.output)
    assert "20 answered" in shown.err


def test_a_second_run_asks_nothing_and_loads_nothing(batch: Batch) -> None:
    batch.input.write_text(lines(5))
    batch.run()
    before = batch.output.read_bytes()
    assert batch.run() == 0
    assert len(batch.engines) == 1
    assert batch.output.read_bytes() == before


def test_new_lines_are_answered_and_old_ones_are_not(batch: Batch) -> None:
    batch.input.write_text(lines(5))
    batch.run()
    batch.input.write_text(lines(7))
    assert batch.run() == 0
    assert sorted(batch.asked) == ["question 6", "question 7"]
    assert len(batch.answers()) == 7


def test_one_bad_line_among_many(batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    good = [json.dumps({"prompt": f"q{n}"}) for n in range(30)]
    batch.input.write_text("\n".join([*good[:17], "{torn", *good[17:]]))
    assert batch.run() == 1
    answers = {a["line"]: a for a in batch.answers()}
    assert set(answers) == set(range(1, 32))
    assert "not JSON" in answers[18]["error"]
    assert sum("response" in a for a in answers.values()) == 30
    assert "line 18: it is not JSON" in capsys.readouterr().err
    batch.input.write_text("\n".join([*good[:17], json.dumps({"prompt": "mended"}), *good[17:]]))
    assert batch.run() == 0
    assert batch.asked == ["mended"]
    assert sorted(a["line"] for a in batch.answers()) == list(range(1, 32))
    assert not any("error" in a for a in batch.answers())


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
    from tests.support.scripted import run_virtual

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


def test_an_interrupt_keeps_what_is_done(batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(number: int, request: GenerationRequest) -> list[Say | Fail]:
        if number == 6:
            signal.raise_signal(signal.SIGINT)
        return echo(number, request)

    batch.input.write_text(lines(20))
    batch.settings["concurrency"] = 2
    batch.script = interrupt
    assert batch.run() == 130
    done = len(batch.answers())
    assert 4 <= done <= 6
    shown = capsys.readouterr().err
    assert f"{20 - done} left; run the same command again" in shown
    batch.script = echo
    assert batch.run() == 0
    assert sorted(a["line"] for a in batch.answers()) == list(range(1, 21))


def test_a_torn_last_line_is_done_again(batch: Batch) -> None:
    batch.input.write_text(lines(3))
    batch.settings["concurrency"] = 1
    batch.run()
    whole = batch.output.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for cut in (start + 1, start + 30, len(whole) - 2, len(whole) - 1):
        batch.output.write_bytes(whole[:cut])
        assert batch.run() == 0
        assert batch.asked == ["question 3"]
        assert sorted(a["line"] for a in batch.answers()) == [1, 2, 3]


def test_a_full_disk_keeps_whole_lines_and_says_how_to_go_on(batch: Batch) -> None:
    batch.input.write_text(lines(40))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(LqmfError, match="cannot be written") as caught:
            batch.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "same command" in caught.value.hint
    assert caught.value.exit_code == 1
    assert 0 < len(batch.answers()) < 40
    assert batch.run() == 0
    assert sorted(a["line"] for a in batch.answers()) == list(range(1, 41))


def test_answers_to_another_file_are_not_mixed_in(batch: Batch) -> None:
    """questions.csv has the same output by default as questions.txt."""
    batch.input.write_text(lines(3))
    batch.run()
    before = batch.output.read_bytes()
    batch.input = batch.folder / "questions.csv"
    batch.input.write_text("id,prompt\na,question 1\nb,question 2\n")
    with pytest.raises(UserInputError, match="holds the answers to another file"):
        batch.run()
    assert batch.output.read_bytes() == before
    assert len(batch.engines) == 1, "before a model is loaded"
    batch.settings["output"] = str(batch.folder / "other.jsonl")
    assert batch.run() == 0


@pytest.mark.parametrize("change", ["model", "prompt", "sampling"])
def test_answers_of_another_batch_are_not_mixed_in(batch: Batch, change: str) -> None:
    batch.input.write_text(lines(3))
    batch.run()
    before = batch.output.read_bytes()
    if change == "model":
        batch.model = "b"
    elif change == "prompt":
        batch.input.write_text(lines(3).replace("question 2", "what?"))
    else:
        batch.settings["sampling"] = SamplingConfig(max_tokens=3)
    with pytest.raises(UserInputError, match="of another batch") as caught:
        batch.run()
    assert "mode.output=" in caught.value.hint
    assert batch.output.read_bytes() == before


REMOTE = {"format": "openai", "path": ""}
LOCAL = {"format": "bnb", "path": "m"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (REMOTE | {"options": {"remote_model": "A"}}, REMOTE | {"options": {"remote_model": "B"}}),
        (
            REMOTE | {"options": {"base_url": "http://h:1/v1"}},
            REMOTE | {"options": {"base_url": "http://h:2/v1"}},
        ),
        (LOCAL | {"version": "1"}, LOCAL | {"version": "2"}),
        (
            LOCAL | {"options": {"quantize_on_load": "4bit"}},
            LOCAL | {"options": {"quantize_on_load": "8bit"}},
        ),
    ],
)
def test_answers_of_another_model_under_the_same_name_are_not_mixed_in(
    batch: Batch, before: dict[str, Any], after: dict[str, Any]
) -> None:
    batch.input.write_text(lines(3))
    batch.spec = functools.partial(ModelSpec, **before)
    batch.run()
    batch.spec = functools.partial(ModelSpec, **after)
    batch.input.write_text(lines(4))
    with pytest.raises(UserInputError, match="of another batch"):
        batch.run()


def test_a_named_model_may_move_to_another_address(batch: Batch) -> None:
    batch.input.write_text(lines(3))
    for n in (3, 4):
        batch.input.write_text(lines(n))
        options = {"remote_model": "A", "base_url": f"http://h:{n}/v1"}
        batch.spec = functools.partial(ModelSpec, **REMOTE, options=options)
        assert batch.run() == 0
    assert batch.asked == ["question 4"]


def _is_refused(batch: Batch, content: bytes) -> None:
    batch.output.write_bytes(content)
    with pytest.raises(UserInputError, match="not the output of a batch"):
        batch.run()
    assert batch.output.read_bytes() == content


def test_a_file_of_something_else_is_not_touched(batch: Batch) -> None:
    batch.input.write_text(lines(3))
    reply = '{"id":"chatcmpl-1","object":"chat.completion"}'
    for content in ('{"my": "data"}\n', "a diary\n", "a diary", '{"line": 1}\n', '{"line":1}', reply):
        _is_refused(batch, content.encode())
    for line in (b'{"line":"\xff"}', b'{"line":"\xff"}\n'):
        _is_refused(batch, line)
    batch.settings["output"] = str(batch.input)
    with pytest.raises(UserInputError, match="input and output at once"):
        batch.run()
    assert batch.input.read_text() == lines(3)


def test_a_folder_as_output_is_refused(batch: Batch) -> None:
    batch.input.write_text(lines(1))
    batch.settings["output"] = str(batch.folder)
    with pytest.raises(UserInputError, match="is a folder"):
        batch.run()


def test_without_an_input_it_says_so(batch: Batch) -> None:
    batch.settings["input"] = None
    with pytest.raises(UserInputError, match="no file") as caught:
        batch.run()
    assert "mode.input=" in caught.value.hint


def test_a_second_run_at_the_same_time_is_refused(batch: Batch) -> None:
    batch.input.write_text(lines(3))
    refused: list[str] = []

    def another(number: int, request: GenerationRequest) -> list[Say | Fail]:
        if number == 0:
            with pytest.raises(UserInputError) as caught:
                Batch(batch.folder).run()
            refused.append(caught.value.message)
        return echo(number, request)

    batch.script = another
    assert batch.run() == 0
    assert "another run is writing" in refused[0]


def test_openai_input_gives_openai_output(batch: Batch) -> None:
    def request(custom_id: str, content: Any, url: str = "/v1/chat/completions") -> str:
        body = {"model": "gpt", "prompt": content, "messages": [{"role": "user", "content": content}]}
        del body["messages" if url == "/v1/completions" else "prompt"]
        return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})

    def script(number: int, request: GenerationRequest) -> list[Say | Fail]:
        if request.prompt is None and prompt_of(request) == "long":
            return [Fail(0.0, InvalidRequestError("the prompt has 9000 tokens"))]
        return [Say(0.0, "fine")]

    batch.script = script
    batch.input.write_text(
        "\n".join([request("r1", "hi"), request("r2", "long"), request("r3", "x", "/v1/completions"),
                   request("r4", 5)])
    )  # fmt: skip
    assert batch.run() == 1
    got = {a["custom_id"]: a for a in batch.answers()}
    assert set(got) == {"r1", "r2", "r3", "r4"}
    assert all(set(a) == {"id", "custom_id", "response", "error"} for a in got.values())
    chat = got["r1"]["response"]
    assert (chat["status_code"], got["r1"]["error"]) == (200, None)
    assert chat["body"]["object"] == "chat.completion"
    assert chat["body"]["choices"][0]["message"] == {
        "role": "assistant", "content": "fine", "refusal": None,
    }  # fmt: skip
    assert chat["body"]["usage"] == {
        "prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11, "prompt_tokens_details": {"cached_tokens": 0},
    }  # fmt: skip
    assert got["r2"]["response"]["status_code"] == 400
    assert got["r2"]["response"]["body"]["error"]["message"] == "the prompt has 9000 tokens"
    assert got["r2"]["error"]["code"] == "invalid_request_error"
    assert got["r3"]["response"]["body"]["choices"][0]["text"] == "fine"
    assert got["r4"]["response"] is None
    batch.script = lambda *_: [Say(0.0, "now it fits")]
    assert batch.run() == 1
    assert batch.asked == ["long"]
    assert sorted(a["custom_id"] for a in batch.answers()) == ["r1", "r2", "r3", "r4"]


def test_after_sigkill_at_random_points_nothing_is_lost_or_repeated(tmp_path: Path) -> None:
    """The program as a process beside an endpoint, killed in the middle of requests again and again."""
    total, concurrency, rng = 120, 5, random.Random(7)
    (tmp_path / "in.txt").write_text(lines(total))
    output = tmp_path / "in.answers.jsonl"
    asked_again = 0
    with serve(lambda prompt: f"you said {prompt} " * rng.randint(1, 400)) as endpoint:
        command = [
            sys.executable, "-m", "lqmf_runner", "mode=batch", "model=openai", f"backend.base_url={endpoint.url}",
            "tracking=none", "mode.input=in.txt", f"mode.concurrency={concurrency}",
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}

        def start() -> subprocess.Popen[str]:
            return subprocess.Popen(
                command,
                cwd=tmp_path,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )

        for _ in range(3):
            before = len(endpoint.asked)
            after = before + rng.randint(5, 35)
            process = start()
            endpoint.on_asked = lambda n, p=process, at=after: p.kill() if n >= at else None  # type: ignore[misc]
            process.communicate(timeout=60)
            assert process.returncode == -signal.SIGKILL
            whole = output.read_bytes().split(b"\n")[:-1]
            answered = {json.loads(line)["line"] for line in whole}
            assert len(answered) == len(whole)
            asked_again = len(endpoint.asked) - len(whole)
        endpoint.on_asked = lambda _: None
        out, err = start().communicate(timeout=60)
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    assert sorted(a["line"] for a in answers) == list(range(1, total + 1)), err
    assert all(a["response"].startswith(f"you said {a['prompt']} ") for a in answers)
    assert out.strip() == "in.answers.jsonl"
    # Asked twice was only what was under way when a process died.
    assert asked_again <= 3 * concurrency
    assert total <= len(endpoint.asked) <= total + 3 * concurrency
