"""OpenAI's completions over real HTTP, with scripted engines."""

from __future__ import annotations

import json
from typing import Any

from lqmf_runner.types import GenerationRequest

from ...support.server.fakes import fake_server

URL = "/v1/completions"


def parrot(request: GenerationRequest) -> list[str]:
    """Says the prompt, so that answers show where they belong."""
    return ["<", str(request.prompt or request.prompt_tokens), ">"]


async def complete(body: dict[str, Any]) -> Any:
    async with fake_server(parrot) as (client, engines):
        response = await client.post(URL, json={"model": "m"} | body)
        assert response.status_code == 200, response.text
        return response.json(), engines["m"]


async def test_a_list_of_prompts_has_n_answers_each_in_order():
    answer, _ = await complete({"prompt": ["a", "b"], "n": 2})
    assert [choice["text"] for choice in answer["choices"]] == ["<a>", "<a>", "<b>", "<b>"]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert answer["usage"]["prompt_tokens"] == 20
    assert answer["usage"]["completion_tokens"] == 12
    assert answer["object"] == "text_completion"


async def test_token_ids_are_a_prompt_and_lists_of_them_are_several():
    one, engine = await complete({"prompt": [5, 6]})
    assert [choice["text"] for choice in one["choices"]] == ["<(5, 6)>"]
    assert engine.requests[0].sampling.max_tokens == 16
    two, _ = await complete({"prompt": [[5], [6]]})
    assert [choice["text"] for choice in two["choices"]] == ["<(5,)>", "<(6,)>"]


async def test_echo_without_generation_scores_the_prompt():
    answer, engine = await complete({"prompt": "ab", "echo": True, "logprobs": 1, "max_tokens": 0})
    (choice,) = answer["choices"]
    assert engine.requests == []
    assert choice["text"] == "ab"
    assert choice["logprobs"] == {
        "tokens": ["\x01", "a", "b"],
        "token_logprobs": [None, -1.0, -2.0],
        "top_logprobs": [None, {"!": -0.25, "a": -1.0}, {"!": -0.25, "b": -2.0}],
        "text_offset": [0, 1, 2],
    }


async def test_echo_puts_the_prompt_and_its_scores_before_the_answer():
    body = {"prompt": [97, 98], "echo": True, "logprobs": 0, "max_tokens": 5}
    answer, _ = await complete(body)
    (choice,) = answer["choices"]
    assert choice["text"] == "ab<(97, 98)>"
    assert choice["logprobs"]["tokens"] == ["a", "b", "<", "(97, 98)", ">"]
    assert choice["logprobs"]["text_offset"] == [0, 1, 2, 3, 11]
    assert choice["logprobs"]["token_logprobs"] == [None, -1.0, -0.5, -0.5, -0.5]


async def test_a_stream():
    async with fake_server(parrot) as (client, _):
        body = {"model": "m", "prompt": "a", "echo": True, "stream": True}
        response = await client.post(URL, json=body)
    events = [event.removeprefix("data: ") for event in response.text.split("\n\n")[:-1]]
    assert events.pop() == "[DONE]"
    choices = [json.loads(event)["choices"][0] for event in events]
    assert [choice["text"] for choice in choices] == ["a", "<", "a", ">", ""]
    assert [choice["finish_reason"] for choice in choices] == [None] * 4 + ["stop"]
    assert all(choice["logprobs"] is None for choice in choices)


async def test_a_stream_of_several_prompts_echoed_alone():
    async with fake_server(parrot) as (client, _):
        body = {"model": "m", "prompt": ["a", "b"], "echo": True, "stream": True, "max_tokens": 0}
        response = await client.post(URL, json=body)
    events = [event.removeprefix("data: ") for event in response.text.split("\n\n")[:-1]]
    choices = [json.loads(event)["choices"][0] for event in events[:-1]]
    assert [(choice["index"], choice["text"]) for choice in choices] == [(0, "a"), (0, ""), (1, "b"), (1, "")]
