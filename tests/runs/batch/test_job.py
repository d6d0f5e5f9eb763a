"""mode=batch with scripted engines, and as a process that is killed."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lqmf_runner.errors import UserInputError
from lqmf_runner.reports.document import PROMPTS_SHOWN
from lqmf_runner.results.files import read_requests, read_results
from lqmf_runner.results.schema import Shape
from lqmf_runner.types import GenerationRequest, ModelSpec
from tests.support.engine.endpoint import serve
from tests.support.engine.scripted import Fail, Say
from tests.support.runs.batch import Batch, echo, lines

ROOT = Path(__file__).resolve().parents[3]


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
    report = (batch.run_dir / "report.html").read_text("utf-8")
    assert sum(f"</span>you said question {n}</pre>" in report for n in range(1, 21)) == PROMPTS_SHOWN
    assert "– / –" not in report
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


def test_answers_that_were_cut_are_counted(batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    batch.script = lambda number, _: [Say(0.0, "so", finish_reason="length" if number < 2 else "stop")]
    batch.input.write_text(lines(3))
    assert batch.run() == 0
    assert "3 answered (2 cut off at max_tokens)" in capsys.readouterr().err


def test_the_name_of_another_model_is_told_once(batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    def line(n: int, model: str) -> dict[str, Any]:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        return {"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions", "body": body}

    batch.write([line(1, "gpt-4o"), line(2, "gpt-4o"), line(3, "a"), line(4, "other")])
    assert batch.run() == 0
    shown = capsys.readouterr().err
    assert shown.count("note: the lines ask for the model 'gpt-4o', 'other'; a answers them") == 1
    assert shown.count("note:") == 1
    batch.write([{"messages": [{"role": "user", "content": "hi"}], "model": "a"}])
    batch.output.unlink()
    assert batch.run() == 0
    assert "note:" not in capsys.readouterr().err
