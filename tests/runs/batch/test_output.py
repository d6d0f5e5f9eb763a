"""The output file: what it keeps, what it refuses, and the shape of its lines."""

from __future__ import annotations

import json
import resource
from typing import Any

import pytest

from lqmf_runner.config import SamplingConfig
from lqmf_runner.errors import InvalidRequestError, LqmfError, UserInputError
from lqmf_runner.types import GenerationRequest
from tests.support.engine.scripted import Fail, Say
from tests.support.runs.batch import Batch, echo, lines, load_fake, prompt_of
from tests.support.server.openai_bodies import TOOL


def chat(custom_id: str, **body: Any) -> dict[str, Any]:
    """A line of OpenAI's batch format."""
    whole = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": whole}


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


def test_equal_lines_have_answers_of_their_own_and_are_not_asked_again(batch: Batch) -> None:
    batch.other = load_fake
    batch.write([chat("first"), chat("second"), chat("third", n=0)])
    assert batch.run() == 1
    good = [answer for answer in batch.answers() if answer["error"] is None]
    bad = [answer for answer in batch.answers() if answer["error"] is not None]
    assert len({answer["id"] for answer in good}) == 2
    assert len({answer["response"]["body"]["id"] for answer in good}) == 2
    assert [answer["custom_id"] for answer in bad] == ["third"]
    assert "body.n" in bad[0]["error"]["message"]
    before = sorted(batch.output.read_bytes().splitlines())
    assert batch.run() == 1
    assert sorted(batch.output.read_bytes().splitlines()) == before, "the refused one is refused again"


def test_answers_with_ids_of_an_older_kind_are_known(batch: Batch) -> None:
    batch.other = load_fake
    batch.write([chat("first")])
    batch.run()
    (answer,) = batch.answers()
    batch.output.write_text(
        json.dumps(answer | {"id": answer["id"].partition("-")[0]}, separators=(",", ":")) + "\n"
    )
    before = batch.output.read_bytes()
    assert batch.run() == 0
    assert batch.output.read_bytes() == before


def test_a_line_of_jsonl_has_its_choices_where_they_are_more_than_a_text(batch: Batch) -> None:
    batch.other = load_fake
    batch.write(
        [
            {"prompt": "a"},
            {"messages": [{"role": "user", "content": "b"}], "n": 2},
            {"prompt": "c", "tools": [TOOL]},
        ]
    )
    assert batch.run() == 0
    plain, two, calling = sorted(batch.answers(), key=lambda answer: answer["line"])
    assert (plain["response"], "choices" in plain) == ("Hello", False)
    assert [choice["message"]["content"] for choice in two["choices"]] == ["Hello", "Hello"]
    assert two["output_tokens"] == 4
    assert (calling["response"], calling["finish_reason"]) == ("Let me.", "tool_calls")
    assert calling["choices"][0]["message"]["tool_calls"][0]["function"] == {
        "name": "add",
        "arguments": '{"x":1}',
    }
