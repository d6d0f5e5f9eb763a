"""The native routes over real HTTP, with scripted engines."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from lqmf_runner.errors import ConflictError, InvalidRequestError
from lqmf_runner.server.sessions import Sessions
from lqmf_runner.types import GenerationRequest, Message

from ...support.fakes import fake_server

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


def test_sessions_are_bounded_and_expire():
    now = 0.0
    sessions = Sessions(limit=2, max_messages=5, timeout_s=10, clock=lambda: now)

    def say(name: str) -> int:
        with sessions.turn(("", "m", name), (Message("user", "x"),)) as turn:
            turn.answered("y")
        return len(turn.messages)

    assert [say("a"), say("a")] == [1, 3]
    with pytest.raises(InvalidRequestError, match="would have 6 messages, at most 5"):
        say("a")
    say("b")
    say("c")  # the third: "a" goes, as the longest unused
    assert say("b") == 3
    assert say("a") == 1
    now = 11.0
    assert len(sessions) == 0
    assert say("a") == 1
    with sessions.turn(("", "m", "a"), ()), pytest.raises(ConflictError):
        say("a")


def test_a_turn_that_comes_to_nothing_pushes_no_session_out():
    sessions = Sessions(limit=1, max_messages=9, timeout_s=10, clock=lambda: 0.0)

    def say(name: str, answer: str | None) -> int:
        with sessions.turn(("", "m", name), (Message("user", "x"),)) as turn:
            if answer:
                turn.answered(answer)
        return len(turn.messages)

    say("mine", "y")
    for number in range(5):
        say(f"another {number}", None)
    assert say("mine", "y") == 3
    say("another", "y")
    assert say("mine", "y") == 1
    assert len(sessions) == 1


def test_neither_the_limit_nor_the_time_takes_a_busy_session_but_its_owner_may():
    now = 0.0
    sessions = Sessions(limit=1, max_messages=9, timeout_s=10, clock=lambda: now)
    busy, other = ("", "m", "busy"), ("", "m", "other")
    with sessions.turn(busy, (Message("user", "x"),)) as turn:
        with sessions.turn(other, (Message("user", "x"),)) as second:
            second.answered("y")
        now = 20.0
        turn.answered("y")
    with sessions.turn(busy, (Message("user", "z"),)) as turn:
        assert len(turn.messages) == 3
        assert sessions.forget(busy)
        turn.answered("y")
    assert len(sessions) == 0


async def test_loading_and_unloading_twice_is_no_error():
    async with fake_server() as (client, engines):
        first = (await client.post("/models/m/load")).json()
        again = (await client.post("/models/m/load", json={"pin": True, "keep_alive": "5m"})).json()
        assert (first["already_loaded"], again["already_loaded"]) == (False, True)
        assert (first["memory_mb"], first["load_time_s"], first["state"]) == (100.0, 0.25, "ready")
        (model,) = (await client.get("/models")).json()["models"]
        assert model["pinned"]
        (available,) = (await client.get("/models/available")).json()["models"]
        assert (available["name"], available["loaded"], available["size_mb"]) == ("m", True, 100.0)
        first, again = [(await client.post("/models/m/unload")).json() for _ in range(2)]
        assert (first["was_loaded"], again["was_loaded"]) == (True, False)
        assert engines["m"].closed
        assert (await client.get("/models")).json()["models"] == []
        assert (await client.post("/models/x/load")).status_code == 404
        assert (await client.post("/models/x/unload")).status_code == 404


async def test_what_cannot_fit_is_507_with_numbers():
    async with fake_server(sizes={"m": 1.0, "huge": 50_000.0}) as (client, _):
        response = await client.post("/models/huge/load")
    assert response.status_code == 507
    assert "55150 MB" in response.json()["detail"]


async def test_status_and_openai_models():
    async with fake_server() as (client, _):
        await client.post("/models/m/load")
        status = (await client.get("/")).json()
        assert (status["status"], status["loaded_models"]) == ("ok", ["m"])
        assert (await client.get("/ready")).json() == {"status": "ready", "models": {"m": "ready"}}
        listing: Any = (await client.get("/v1/models")).json()
        assert [model["id"] for model in listing["data"]] == ["m"]
        assert (await client.get("/v1/models/m")).json() == listing["data"][0]
        unknown = await client.get("/v1/models/x")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
