"""OpenAI's chat over real HTTP, with scripted engines: shapes, order, errors, and clients that go away."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

from lqmf_runner.errors import EngineLostError, QueueFullError

from ...support.fakes import fake_server, hello

URL = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hi"}]


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


async def test_health_and_unknown_routes():
    async with fake_server(hello) as (client, _):
        assert (await client.get("/nothing")).json()["error"] == "not_found"
        assert (await client.get("/v1/nothing")).json()["error"]["code"] == "not_found"
        assert (await client.get("/openapi.json")).json()["openapi"].startswith("3.")
        assert (await client.put("/health")).status_code == 405


async def test_more_messages_than_any_context_holds_are_refused():
    async with fake_server() as (client, _):
        for n, status in ((16_384, 200), (16_385, 400)):
            body = {"model": "m", "messages": [{"role": "user", "content": "a"}] * n}
            assert (await client.post(URL, json=body)).status_code == status
