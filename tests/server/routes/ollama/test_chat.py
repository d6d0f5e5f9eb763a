"""Ollama's chat and generate over real HTTP, with scripted engines."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from lqmf_runner.config import ServerConfig
from lqmf_runner.errors import EngineLostError
from lqmf_runner.server.app import create_app
from lqmf_runner.server.pool.pool import ModelPool
from lqmf_runner.server.routes import ROUTES
from lqmf_runner.server.state import create_state
from lqmf_runner.types import Chunk, GenerationRequest, ModelSpec, Usage

from ....support.server.fakes import FakeCatalog, create_loader, fake_server, live
from ....support.server.guarded import guarded_server

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
PROMPT = {"model": "m", "prompt": "hi"}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def lines(response: httpx.Response) -> list[Any]:
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


async def test_a_chat_is_streamed_as_lines_and_the_last_has_true_figures():
    async with fake_server() as (client, _):
        *pieces, last = lines(await client.post("/api/chat", json={**CHAT, "model": "m:latest"}))
    assert [piece["message"] for piece in pieces] == [
        {"role": "assistant", "content": text} for text in ("Hel", "lo", " you")
    ]
    assert {piece["done"] for piece in pieces} == {False}
    assert {line["model"] for line in (*pieces, last)} == {"m:latest"}
    assert datetime.fromisoformat(last["created_at"]).tzinfo is not None
    assert last["message"] == {"role": "assistant", "content": ""}
    assert (last["done"], last["done_reason"]) == (True, "stop")
    assert (last["prompt_eval_count"], last["eval_count"], last["eval_duration"]) == (10, 3, 500_000_000)
    assert 0 < last["load_duration"] < last["total_duration"]
    assert 0 < last["prompt_eval_duration"] < last["total_duration"]


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_a_whole_answer(path: str):
    async with fake_server() as (client, engines):
        body = {**CHAT, "stream": False} if path == "/api/chat" else {**PROMPT, "stream": False}
        answer = (await client.post(path, json=body)).json()
        assert engines["m"].requests[0].messages is not None
    said = answer["message"]["content"] if path == "/api/chat" else answer["response"]
    assert (said, answer["done"], answer["done_reason"], answer["eval_count"]) == (
        "Hello you",
        True,
        "stop",
        3,
    )


async def test_a_prompt_is_streamed_and_a_raw_one_goes_to_the_model_as_it_is():
    async with fake_server() as (client, engines):
        *pieces, last = lines(
            await client.post("/api/generate", json={**PROMPT, "raw": True, "logprobs": True})
        )
        assert engines["m"].requests[0].prompt == "hi"
    assert [piece["response"] for piece in pieces] == ["Hel", "lo", " you"]
    assert pieces[0]["logprobs"][0]["token"] == "Hel"
    assert (last["response"], last["done_reason"]) == ("", "stop")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_of_a_tool_has_its_arguments_as_an_object(stream: bool):
    def script(request: GenerationRequest) -> list[str]:
        return ["<tool_", 'call>{"name": "weather", "arguments": {"city": "Paris"}}', "</tool_call>"]

    async with fake_server(script) as (client, _):
        response = await client.post("/api/chat", json={**CHAT, "tools": [WEATHER], "stream": stream})
    messages = [line["message"] for line in lines(response)] if stream else [response.json()["message"]]
    calls = [call for message in messages for call in message.get("tool_calls", [])]
    assert [call["function"] for call in calls] == [{"name": "weather", "arguments": {"city": "Paris"}}]
    assert "".join(message["content"] for message in messages) == ""


@pytest.mark.parametrize("stream", [True, False])
async def test_thoughts_come_apart_from_the_text(stream: bool):
    pieces = [Chunk(reasoning="h"), Chunk(reasoning="m", text="Ye"), "s"]
    async with fake_server(lambda r: pieces) as (client, _):
        response = await client.post("/api/chat", json={**CHAT, "think": True, "stream": stream})
    messages = [line["message"] for line in lines(response)] if stream else [response.json()["message"]]
    assert "".join(message.get("thinking", "") for message in messages) == "hm"
    assert "".join(message["content"] for message in messages) == "Yes"


@pytest.mark.parametrize(
    ("think", "thinks", "options", "apart"),
    [
        (None, True, {"enable_thinking": True}, None),
        (True, True, {"enable_thinking": True}, True),
        ("low", True, {"enable_thinking": True, "reasoning_effort": "low"}, True),
        (False, True, {"enable_thinking": False}, None),
        (None, False, {}, None),
    ],
)
async def test_a_model_that_thinks_does_so_unless_it_is_told_not_to(
    think: bool | str | None, thinks: bool, options: dict[str, Any], apart: bool | None
):
    async with fake_server() as (client, engines):
        await client.post("/models/m/load")
        engines["m"].info = msgspec.structs.replace(engines["m"].info, thinks=thinks)
        for path, body in (("/api/chat", CHAT), ("/api/generate", PROMPT)):
            assert (await client.post(path, json={**body, "think": think})).status_code == 200
            asked = engines["m"].requests[-1]
            assert (asked.template_options, asked.separate_thoughts) == (options, apart)
        for fields in ({"raw": True}, {"format": "json"}):
            await client.post("/api/generate", json={**PROMPT, **fields})
            assert engines["m"].requests[-1].template_options == {}


async def test_thoughts_of_an_endpoint_come_apart_from_the_text():
    end = Chunk(text="Yes", finish_reason="stop", usage=Usage(prompt_tokens=1, completion_tokens=2))
    async with fake_server(lambda r: [Chunk(reasoning="hm"), end]) as (client, _):
        answer = (await client.post("/api/generate", json={**PROMPT, "stream": False})).json()
    assert (answer["thinking"], answer["response"]) == ("hm", "Yes")
    assert answer["eval_duration"] > 0  # measured here, since the engine says none


async def test_a_model_that_does_not_think_is_not_asked_to(tmp_path: Path):
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")

    spec = ModelSpec(name="m", format="gguf", path=str(tmp_path))
    loader = create_loader(lambda r: ["Hi"], {})
    pool = ModelPool(FakeCatalog({"m": 1.0}, {"m": spec}), ServerConfig(), load=loader)
    async with live(create_app(create_state(ServerConfig(), pool, ROUTES))) as client:
        refused = await client.post("/api/chat", json={**CHAT, "think": True})
        assert (refused.status_code, "thinking" in refused.json()["error"]) == (400, True)
        assert (await client.post("/api/chat", json={**CHAT, "think": False})).status_code == 200


async def test_nothing_to_answer_loads_the_model_and_keep_alive_0_unloads_it():
    async with fake_server(sizes={"m": 1.0, "other": 1.0}) as (client, engines):
        for path, body in (("/api/chat", {"model": "m", "messages": []}), ("/api/generate", {"model": "m"})):
            loaded = (await client.post(path, json={**body, "keep_alive": "10m"})).json()
            assert (loaded["done"], loaded["done_reason"]) == (True, "load")
            assert engines["m"].requests == []
            unloaded = (await client.post(path, json={**body, "keep_alive": 0})).json()
            assert (unloaded["done"], unloaded["done_reason"]) == (True, "unload")
            await asyncio.wait_for(engines["m"].ended.wait(), 5)
        assert (await client.post("/api/chat", json={"model": "other", "keep_alive": 0})).status_code == 200
        assert "other" not in engines  # it is not loaded to be unloaded
        assert (await client.post("/api/chat", json={"model": "nope", "keep_alive": 0})).status_code == 404
        await client.post("/models/m/load", json={"pin": True})
        refused = await client.post("/api/generate", json={"model": "m", "keep_alive": 0})
        assert (refused.status_code, "pinned" in refused.json()["error"]) == (409, True)


async def test_an_error_is_one_text_also_in_mid_stream():
    async with fake_server(lambda r: ["Hel", EngineLostError("the worker died")]) as (client, _):
        missing = await client.post("/api/chat", json={**CHAT, "model": "nope"})
        assert missing.status_code == 404
        assert list(missing.json()) == ["error"]
        assert isinstance(missing.json()["error"], str)
        first, last = lines(await client.post("/api/chat", json=CHAT))
        assert list((await client.get("/api/unknown")).json()) == ["error"]
        assert "error" in (await client.get("/api/v1/unknown")).json()
    assert first["message"]["content"] == "Hel"
    assert last == {"error": "the worker died"}


async def test_a_stream_that_waits_has_lines_that_say_nothing():
    goes_on = asyncio.Event()
    got = []
    async with (
        fake_server(lambda r: [goes_on, "Hi"], keepalive_s=0.05) as (client, _),
        client.stream("POST", "/api/chat", json=CHAT) as response,
    ):
        async for line in response.aiter_lines():
            got.append(json.loads(line))
            goes_on.set()
    assert got[0]["message"] == {"role": "assistant", "content": ""}
    assert (got[0]["done"], got[-1]["done"]) == (False, True)
    assert "".join(line["message"]["content"] for line in got) == "Hi"


async def test_a_body_without_a_content_type_for_json_is_read():
    """Ollama's documentation has `curl -d`, which says that it sends a form."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    async with guarded_server() as server:
        response = await server.client.post("/api/chat", content=json.dumps(CHAT), headers=form)
    assert lines(response)[-1]["done"]


async def test_keys_count_and_one_that_may_use_models_may_load_them():
    async with guarded_server(keys="sesame:use") as server:
        for path in ("/api/tags", "/api/version"):
            refused = await server.client.get(path)
            assert (refused.status_code, list(refused.json())) == (401, ["error"])
        key = {"authorization": "Bearer sesame"}
        loaded = await server.client.post("/api/generate", json={"model": "m"}, headers=key)
        assert loaded.json()["done_reason"] == "load"
