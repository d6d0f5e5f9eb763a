"""Bodies for an endpoint. Our own server's conversion reads them back as the same requests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lqmf_runner.errors import InvalidRequestError
from lqmf_runner.openai_api.client.bodies import generation_body, score_body
from lqmf_runner.types import Constraint, GenerationRequest, Message, SamplingParams
from tests.support.server.openai_bodies import TOOL, chat, completion

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"x": 1}}}
TALK = (
    Message("user", "hi"),
    Message("assistant", "", tool_calls=(CALL,)),
    Message("tool", "1", tool_call_id="c1"),
)
SAMPLING = SamplingParams(max_tokens=3, temperature=0.5, top_k=4, stop=("x",), logit_bias={5: -1.0}, seed=3)


@pytest.mark.parametrize(
    "request_",
    [
        GenerationRequest(messages=TALK, sampling=SAMPLING),
        GenerationRequest(prompt="once", sampling=SAMPLING),
        GenerationRequest(prompt_tokens=(5, 6), sampling=SamplingParams(logprobs=2)),
        GenerationRequest(
            messages=TALK[:1], sampling=SamplingParams(logprobs=2, constraint=Constraint("json_object"))
        ),
        GenerationRequest(prompt="a", sampling=SamplingParams(constraint=Constraint("choice", '["a"]'))),
        GenerationRequest(
            messages=TALK[:1],
            tools=({"type": "function", "function": {"description": "", **TOOL["function"]}},),
            template_options={"enable_thinking": False},
        ),
    ],
)
def test_what_is_sent_is_read_as_the_same_request(request_: GenerationRequest) -> None:
    path, body = generation_body(request_, "m")
    sent: dict[str, Any] = json.loads(json.dumps(body))
    exchange = chat(**sent) if path == "/chat/completions" else completion(**sent)
    assert exchange.requests == [request_]
    assert exchange.stream


def test_what_cannot_be_sent_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="empty"):
        generation_body(GenerationRequest(prompt=""), "m")
    constraint = Constraint("json_schema", "{")
    with pytest.raises(InvalidRequestError, match="not JSON"):
        generation_body(GenerationRequest(prompt="a", sampling=SamplingParams(constraint=constraint)), "m")


def test_a_score_asks_for_one_token_and_the_echo() -> None:
    body = score_body([5, 6], "m", top=0)
    assert (body["prompt"], body["echo"], body["max_tokens"], body["logprobs"]) == ([5, 6], True, 1, 1)
