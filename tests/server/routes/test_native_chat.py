"""The native routes over real HTTP, with scripted engines."""

from __future__ import annotations

import asyncio
import json

import pytest

from lqmf_runner.types import Chunk, GenerationRequest, Message

from ...support.server.fakes import fake_server

CHAT = "/models/m/chat"


def last_words(request: GenerationRequest) -> list[str]:
    assert request.messages
    return ["You said ", request.messages[-1].content]


async def test_a_whole_answer_has_its_figures():
    async with fake_server(last_words) as (client, engines):
        answer = (await client.post(CHAT, json={"message": "hi", "system": "Be brief.", "top_k": 5})).json()
        model = (await client.get("/models")).json()["models"][0]
    assert answer["response"] == "You said hi"
    assert (answer["model"], answer["tokens_generated"], answer["prompt_tokens"]) == ("m", 2, 10)
    assert answer["finish_reason"] == "stop"
    assert 0 < answer["time_to_first_token"] <= answer["time_taken"]
    assert (
        answer["tokens_per_second"] == 2.0
    )  # one token after the first, in the half second that the engine says
    request = engines["m"].requests[0]
    assert request.messages == (Message("system", "Be brief."), Message("user", "hi"))
    assert request.sampling.top_k == 5
    assert (model["requests"], model["tokens_per_second"], model["state"]) == (1, 2.0, "ready")


async def test_a_stream_ends_with_the_figures():
    async with fake_server(last_words) as (client, _):
        response = await client.post(CHAT, json={"message": "hi", "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(event.removeprefix("data: ")) for event in response.text.split("\n\n")[:-1]]
    assert [event["response"] for event in events] == ["You said ", "hi", ""]
    assert [event["done"] for event in events] == [False, False, True]
    assert events[-1]["tokens_generated"] == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_session_keeps_the_conversation_until_it_is_forgotten(stream: bool):
    async with fake_server(last_words) as (client, engines):
        for text in ("one", "two"):
            body = {"message": text, "session_id": "s", "stream": stream}
            assert (await client.post(CHAT, json=body)).status_code == 200
        await client.post(CHAT, json={"message": "other", "session_id": "t"})
        assert (await client.delete("/models/m/sessions/s")).json() == {"session_id": "s"}
        assert (await client.delete("/models/m/sessions/s")).status_code == 404
        await client.post(CHAT, json={"message": "again", "session_id": "s"})
    texts = [[message.content for message in request.messages] for request in engines["m"].requests]
    assert texts == [["one"], ["one", "You said one", "two"], ["other"], ["again"]]


async def test_a_turn_that_nobody_waited_for_is_not_remembered_and_a_busy_session_is_refused():
    never = asyncio.Event()
    async with fake_server(lambda r: ["a", never] if len(r.messages) == 1 else ["b"]) as (client, engines):
        body = {"message": "one", "session_id": "s", "stream": True}
        async with client.stream("POST", CHAT, json=body) as response:
            await anext(response.aiter_lines())
            busy = await client.post(CHAT, json={"message": "two", "session_id": "s"})
            assert busy.status_code == 409
        await asyncio.wait_for(engines["m"].idle.wait(), 10)
        messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
        body = {"messages": [*messages, {"role": "user", "content": "z"}], "session_id": "s"}
        assert (await client.post(CHAT, json=body)).json()["response"] == "b"
    assert [message.content for message in engines["m"].requests[-1].messages] == ["x", "y", "z"]


async def test_thoughts_are_beside_the_answer_and_not_in_the_conversation():
    pieces = [Chunk(reasoning="h"), Chunk(reasoning="m", text="Ye"), "s"]
    async with fake_server(lambda r: pieces) as (client, engines):
        whole = (await client.post(CHAT, json={"message": "hi", "session_id": "s"})).json()
        response = await client.post(CHAT, json={"message": "again", "session_id": "s", "stream": True})
    events = [json.loads(event.removeprefix("data: ")) for event in response.text.split("\n\n")[:-1]]
    assert (whole["reasoning_content"], whole["response"]) == ("hm", "Yes")
    assert "".join(event.get("reasoning_content", "") for event in events) == "hm"
    assert "".join(event["response"] for event in events) == "Yes"
    assert engines["m"].requests[1].messages[1] == Message("assistant", "Yes")
