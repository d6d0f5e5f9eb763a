"""Chat completions from body to JSON, without a server."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from lqmf_runner.errors import FieldError
from lqmf_runner.openai_api.chat import ChatExchange
from lqmf_runner.types import Chunk, Completion, SamplingParams, TokenLogprob, Usage
from tests.support.server.openai_bodies import TOOL, chat

CALL = '<tool_call>{"name": "add", "arguments": {"x": 1}}</tool_call>'
LOGPROB = TokenLogprob(5, "é", -0.5, ((5, "é", -0.5), (6, "e", -1.5)))
USAGE = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=3)


def whole(exchange: ChatExchange, *texts: str, **fields: Any) -> Any:
    """The JSON of the whole answer, where the model says these texts."""
    completions = [
        Completion(**{"text": text, "token_ids": (1,), "finish_reason": "stop", "usage": USAGE} | fields)
        for text in texts
    ]
    return msgspec.to_builtins(exchange.answer(completions, USAGE))


def streamed(exchange: ChatExchange, *pieces: Chunk) -> list[Any]:
    """The objects of a stream of one choice whose chunks are these."""
    events = exchange.events()
    data = b"".join(events.chunks(0, [piece]) for piece in pieces) + events.end(USAGE)
    lines = [line.removeprefix("data: ") for line in data.decode().split("\n\n")[:-1]]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_what_is_left_out_is_openais_default() -> None:
    (request,) = chat().requests
    assert request.sampling == SamplingParams(max_tokens=None)
    assert chat(temperature=None, seed=None, stop=None).requests[0] == request
    assert chat(max_tokens=3, max_completion_tokens=4).requests[0].sampling.max_tokens == 4


def test_a_whole_answer() -> None:
    answer = whole(chat(), "Hello")
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    (choice,) = answer["choices"]
    assert choice == {
        "index": 0, "message": {"role": "assistant", "content": "Hello", "refusal": None}, "logprobs": None,
        "finish_reason": "stop",
    }  # fmt: skip
    assert answer["usage"]["total_tokens"] == 13
    assert whole(chat(), "Hello")["id"] != answer["id"]


def test_calls_are_read_out_of_answers_to_requests_with_tools_only() -> None:
    (choice,) = whole(chat(tools=[TOOL]), f"Well. {CALL}")["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Well.", "tool_calls")
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"x":1}'}
    for body in ({}, {"tools": [TOOL], "tool_choice": "none"}):
        (choice,) = whole(chat(**body), CALL)["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == (CALL, "stop")
    (cut,) = whole(chat(tools=[TOOL]), CALL, finish_reason="length")["choices"]
    assert cut["finish_reason"] == "length"


@pytest.mark.parametrize(("parallel", "calls"), [(True, 2), (None, 2), (False, 1)])
def test_calls_are_parallel_unless_the_request_says_no(parallel: bool | None, calls: int) -> None:
    (choice,) = whole(chat(tools=[TOOL], parallel_tool_calls=parallel), CALL + CALL)["choices"]
    assert len(choice["message"]["tool_calls"]) == calls


def test_logprobs_are_told_where_they_are_asked_for() -> None:
    (choice,) = whole(chat(logprobs=True, top_logprobs=2), "é", logprobs=(LOGPROB,))["choices"]
    (token,) = choice["logprobs"]["content"]
    assert (token["token"], token["bytes"], token["logprob"]) == ("é", [195, 169], -0.5)
    assert [top["token"] for top in token["top_logprobs"]] == ["é", "e"]
    (choice,) = whole(chat(), "é", logprobs=(LOGPROB,))["choices"]
    assert choice["logprobs"] is None
    assert [chat(**body).requests[0].sampling.logprobs for body in ({}, {"logprobs": True})] == [None, 0]
    with pytest.raises(FieldError, match="needs logprobs=true"):
        chat(top_logprobs=1)


@pytest.mark.parametrize("size", [1, 5, 100])
@pytest.mark.parametrize("body", [{}, {"tools": [TOOL]}])
def test_a_stream_says_what_the_whole_answer_says(size: int, body: dict[str, Any]) -> None:
    text = f"Let me see. {CALL}"
    pieces = [Chunk(text=text[at : at + size]) for at in range(0, len(text), size)]
    events = streamed(chat(stream=True, **body), *pieces, Chunk(finish_reason="stop"))
    deltas = [event["choices"][0]["delta"] for event in events]
    (choice,) = whole(chat(**body), text)["choices"]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content") or "" for delta in deltas).strip() == choice["message"]["content"]
    calls = [call["function"] for delta in deltas for call in delta.get("tool_calls", ())]
    assert calls == [call["function"] for call in choice["message"].get("tool_calls", ())]
    assert events[-1]["choices"][0]["finish_reason"] == choice["finish_reason"]


def test_a_stream_of_logprobs_and_counts() -> None:
    exchange = chat(stream=True, logprobs=True, stream_options={"include_usage": True})
    *events, last = streamed(exchange, Chunk(text="é", logprobs=(LOGPROB,)), Chunk(finish_reason="stop"))
    assert last["usage"]["completion_tokens"] == 3
    assert all(event["usage"] is None for event in events)
    assert events[1]["choices"][0]["logprobs"]["content"][0]["token"] == "é"


@pytest.mark.parametrize(
    ("fields", "apart"),
    [
        ({}, None),
        ({"separate_reasoning": True}, None),
        ({"separate_reasoning": False}, False),
        ({"reasoning_format": "auto"}, None),
    ],
)
def test_thoughts_stay_in_the_text_where_that_is_asked_for(
    fields: dict[str, Any], apart: bool | None
) -> None:
    (request,) = chat(**fields).requests
    assert request.separate_thoughts is apart


def test_a_format_of_thoughts_that_is_not_given_is_refused() -> None:
    with pytest.raises(FieldError, match="reasoning_format") as refused:
        chat(reasoning_format="none")
    assert refused.value.hint == "use separate_reasoning"
