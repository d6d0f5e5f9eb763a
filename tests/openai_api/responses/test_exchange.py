"""Answers as responses, without a server."""

from __future__ import annotations

import json
from typing import Any

from lqmf_runner.openai_api.bodies.body import decode
from lqmf_runner.openai_api.responses.exchange import ResponseExchange
from lqmf_runner.openai_api.responses.schemas import Response, ResponseRequest
from lqmf_runner.types import Chunk, Completion, Usage

USAGE = Usage(prompt_tokens=1, completion_tokens=1)
TOOL = {"type": "function", "name": "add"}


def exchange(kept: list[Response], **body: Any) -> ResponseExchange:
    data = decode(ResponseRequest, json.dumps({"model": "m", "input": "hi"} | body).encode())
    return ResponseExchange(data, (), lambda _: None, kept.append)


def test_a_cut_answer_is_incomplete_and_kept():
    kept: list[Response] = []
    asked = exchange(kept, max_output_tokens=1)
    whole = asked.answer(Completion(text="Hel", token_ids=(1,), finish_reason="length", usage=USAGE))
    events = asked.events()
    events.chunks(0, [Chunk(text="Hel"), Chunk(finish_reason="length", usage=USAGE)])
    *_, last = events.end(USAGE).decode().strip().split("\n\n")
    name, data = last.split("\n")
    streamed = json.loads(data.removeprefix("data: "))["response"]
    assert name == "event: response.incomplete"
    assert (streamed["status"], streamed["incomplete_details"]) == (
        "incomplete", {"reason": "max_output_tokens"},
    )  # fmt: skip
    assert streamed["output"][0]["status"] == "incomplete"
    assert (whole.status, whole.completed_at) == ("incomplete", None)
    assert kept[0] == whole


def test_a_call_that_is_cut_stays_text():
    cut = '<tool_call>{"name": "add", "argum'
    asked = exchange([], tools=[TOOL])
    whole = asked.answer(Completion(text=cut, token_ids=(1,), finish_reason="length", usage=USAGE))
    (message,) = whole.output
    assert message.content[0].text == cut  # type: ignore[union-attr, index]
