"""OpenAI's chat over real HTTP, with scripted engines: shapes, order, errors, and clients that go away."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from lqmf_runner.errors import EngineLostError, QueueFullError

from ...support.server.fakes import fake_server

URL = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hi"}]
TOOL = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}},
}
CALL = '<tool_call>\n{"name": "add", "arguments": {"x": 1}}\n</tool_call>'


async def stream(client: httpx.AsyncClient, **body: Any) -> list[Any]:
    """The events of a streamed answer: objects, and the string [DONE]."""
    response = await client.post(URL, json={"model": "m", "messages": MESSAGES, "stream": True} | body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, rest = response.text.split("\n\n")
    assert rest == ""
    assert all(event.startswith("data: ") for event in events)
    datas = [event.removeprefix("data: ") for event in events]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


async def test_a_stream_begins_with_the_role_and_ends_with_finish_usage_and_done():
    async with fake_server() as (client, _):
        events = await stream(client, stream_options={"include_usage": True})
    assert events.pop() == "[DONE]"
    usage = events.pop()
    assert usage["choices"] == []
    assert usage["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 3,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert len({event["id"] for event in [*events, usage]}) == 1
    assert all(event["usage"] is None for event in events)
    choices = [event["choices"][0] for event in events]
    assert choices[0]["delta"]["role"] == "assistant"
    assert [choice["delta"].get("content") for choice in choices[1:-1]] == ["Hel", "lo", " you"]
    assert choices[-1]["delta"] == {}
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]


async def test_usage_is_not_streamed_unless_asked_for():
    async with fake_server() as (client, _):
        events = await stream(client)
    assert all("usage" not in event for event in events[:-1])


async def test_a_whole_answer():
    async with fake_server() as (client, engines):
        body = {"model": "m", "messages": MESSAGES, "seed": 5, "n": 2, "max_completion_tokens": 9}
        answer = (await client.post(URL, json=body)).json()
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["Hello you"] * 2
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert answer["usage"]["completion_tokens"] == 6
    assert answer["usage"]["prompt_tokens"] == 10
    sampling = [request.sampling for request in engines["m"].requests]
    assert {params.max_tokens for params in sampling} == {9}
    assert len({params.seed for params in sampling}) == 2


async def test_an_error_before_the_first_token_has_its_status():
    async with fake_server(lambda _: [QueueFullError("the queue is full")]) as (client, _):
        response = await client.post(URL, json={"model": "m", "messages": MESSAGES, "stream": True})
    assert response.status_code == 429
    assert response.headers["retry-after"] == "1"
    assert response.json()["error"]["type"] == "rate_limit_error"


async def test_an_error_in_mid_stream_is_an_event_and_the_end():
    async with fake_server(lambda _: ["a", EngineLostError("it died")]) as (client, _):
        events = await stream(client)
    assert events[-1]["error"]["message"].startswith("it died")
    assert events[-2]["choices"][0]["delta"]["content"] == "a"


async def test_a_client_that_goes_away_frees_its_slot():
    never = asyncio.Event()
    async with fake_server(lambda _: ["a", never]) as (client, engines):
        body = {"model": "m", "messages": MESSAGES, "stream": True}
        async with client.stream("POST", URL, json=body) as response:
            await anext(response.aiter_lines())
            assert engines["m"].running == 1
        await asyncio.wait_for(engines["m"].idle.wait(), 10)
        models = (await client.get("/models")).json()["models"]
    assert models[0]["active"] == 0


async def test_all_choices_of_a_client_that_goes_away_before_the_first_token_end():
    never, began = asyncio.Event(), asyncio.Event()

    def script(_: Any) -> list[Any]:
        began.set()
        return [never]

    async with fake_server(script) as (client, engines):
        posting = asyncio.create_task(
            client.post(URL, json={"model": "m", "messages": MESSAGES, "n": 3}),
        )
        await began.wait()
        posting.cancel()
        await asyncio.wait_for(engines["m"].idle.wait(), 10)
        assert len(engines["m"].requests) == 3
        assert (await client.get("/health")).json() == {"status": "ok"}


async def test_more_messages_than_any_context_holds_are_refused():
    async with fake_server() as (client, _):
        for n, status in ((16_384, 200), (16_385, 400)):
            body = {"model": "m", "messages": [{"role": "user", "content": "a"}] * n}
            assert (await client.post(URL, json=body)).status_code == status


async def test_a_call_has_an_id_that_mistrals_templates_accept():
    async with fake_server(lambda _: [CALL]) as (client, _):
        body = {"model": "m", "messages": MESSAGES, "tools": [TOOL]}
        (choice,) = (await client.post(URL, json=body)).json()["choices"]
    call_id = choice["message"]["tool_calls"][0]["id"]
    assert len(call_id) == 9
    assert call_id.isalnum()


async def test_a_whole_answer_with_a_call():
    async with fake_server(lambda _: ["Let me. ", CALL[:20], CALL[20:]]) as (client, engines):
        body = {"model": "m", "messages": MESSAGES, "tools": [TOOL]}
        (choice,) = (await client.post(URL, json=body)).json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me."
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["function"] == {"name": "add", "arguments": '{"x":1}'}
    request = engines["m"].requests[0]
    assert request.tools[0]["function"]["name"] == "add"
    assert request.sampling.constraint is None


async def test_a_streamed_answer_with_a_call():
    async with fake_server(lambda _: ["Let me. ", CALL[:20], CALL[20:]]) as (client, _):
        events = await stream(client, tools=[TOOL])
    choices = [event["choices"][0] for event in events[:-1]]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == "Let me. "
    (delta,) = [choice["delta"] for choice in choices if "tool_calls" in choice["delta"]]
    (call,) = delta["tool_calls"]
    assert (call["index"], call["function"]["name"]) == (0, "add")
    assert choices[-1]["finish_reason"] == "tool_calls"


async def test_a_required_call_is_a_constraint_and_none_offers_no_tools():
    async with fake_server(lambda _: ['{"name": "add", ', '"arguments": {"x": 1}}']) as (client, engines):
        for choice in ("required", {"type": "function", "function": {"name": "add"}}, "none"):
            body = {"model": "m", "messages": MESSAGES, "tools": [TOOL], "tool_choice": choice}
            answer = (await client.post(URL, json=body)).json()
            assert ("tool_calls" in answer["choices"][0]["message"]) == (choice != "none")
        unknown = {"type": "function", "function": {"name": "subtract"}}
        body = {"model": "m", "messages": MESSAGES, "tools": [TOOL], "tool_choice": unknown}
        assert (await client.post(URL, json=body)).status_code == 400
    required, named, none = engines["m"].requests
    schema = json.loads(required.sampling.constraint.value)
    (call,) = schema["anyOf"]
    assert call["properties"]["name"] == {"const": "add"}
    assert call["properties"]["arguments"] == TOOL["function"]["parameters"]
    assert named.sampling.constraint == required.sampling.constraint
    assert none.tools == ()
    assert none.sampling.constraint is None


@pytest.mark.parametrize("depth", [100, 250, 400])
async def test_deep_schemas_are_no_failure_of_the_server(depth: int):
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    tool = {"type": "function", "function": {"name": "add", "parameters": schema}}
    asked = {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}
    body = {"model": "m", "messages": MESSAGES}
    async with fake_server() as (client, _):
        for more in (
            {"tools": [tool], "tool_choice": "required"},
            asked,
            {"structured_outputs": {"json": schema}},
        ):
            response = await client.post(URL, json=body | more)
            assert response.status_code in (200, 400), response.text
            assert response.status_code == 200 or "nested too deeply" in response.text
