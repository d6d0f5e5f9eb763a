"""OpenAI's responses over real HTTP, with scripted engines: items, order of events, what is kept, and errors."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from lqmf_runner.errors import EngineLostError, QueueFullError
from lqmf_runner.types import Chunk

from ...support.server.fakes import fake_server
from ...support.server.guarded import guarded_server

URL = "/v1/responses"
TOOL = {
    "type": "function",
    "name": "add",
    "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}},
}
CALL = '<tool_call>\n{"name": "add", "arguments": {"x": 1}}\n</tool_call>'


async def post(client: httpx.AsyncClient, **body: Any) -> Any:
    response = await client.post(URL, json={"model": "m", "input": "hi"} | body)
    assert response.status_code == 200, response.text
    return response.json()


async def refused(client: httpx.AsyncClient, **body: Any) -> tuple[int, str, str]:
    """Status, `param` and message of an error."""
    response = await client.post(URL, json={"model": "m", "input": "hi"} | body)
    error = response.json()["error"]
    return response.status_code, error["param"], error["message"]


async def stream(client: httpx.AsyncClient, **body: Any) -> list[Any]:
    """The events of a streamed response, whose names and numbers are checked."""
    response = await client.post(URL, json={"model": "m", "input": "hi", "stream": True} | body)
    assert response.status_code == 200, response.text
    *blocks, rest = response.text.split("\n\n")
    assert rest == ""
    events = []
    for block in blocks:
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def shapes(items: list[Any]) -> list[Any]:
    """Items without their ids."""
    return [{name: value for name, value in item.items() if name not in ("id", "call_id")} for item in items]


async def test_a_whole_response():
    async with fake_server() as (client, engines):
        got = await post(
            client,
            instructions="Be brief.",
            max_output_tokens=9,
            temperature=0.5,
            top_k=3,
            metadata={"a": "b"},
        )
    assert (got["object"], got["status"], got["error"], got["incomplete_details"]) == (
        "response", "completed", None, None,
    )  # fmt: skip
    (message,) = got["output"]
    assert message["id"].startswith("msg_")
    assert shapes([message]) == [
        {
            "type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "Hello you", "annotations": [], "logprobs": []}],
        }
    ]  # fmt: skip
    assert got["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 13,
    }
    asked = (
        "instructions",
        "max_output_tokens",
        "temperature",
        "top_p",
        "metadata",
        "text",
        "tool_choice",
        "tools",
    )
    assert [got[name] for name in asked] == [
        "Be brief.", 9, 0.5, 1.0, {"a": "b"}, {"format": {"type": "text"}, "verbosity": "medium"}, "auto", [],
    ]  # fmt: skip
    (request,) = engines["m"].requests
    assert [(turn.role, turn.content) for turn in request.messages or ()] == [
        ("system", "Be brief."),
        ("user", "hi"),
    ]
    assert (request.sampling.max_tokens, request.sampling.temperature, request.sampling.top_k) == (9, 0.5, 3)


async def test_the_events_of_thoughts_text_and_calls():
    pieces = [Chunk(reasoning="h"), Chunk(reasoning="m"), "So", ":\n", CALL, "\n", CALL]
    async with fake_server(lambda _: pieces) as (client, _):
        events = await stream(client, tools=[TOOL])
        whole = await post(client, tools=[TOOL])
    part, item = "response.content_part", "response.output_item"
    arguments = "response.function_call_arguments"
    call = [f"{item}.added", f"{arguments}.delta", f"{arguments}.done", f"{item}.done"]
    thoughts = [f"response.reasoning_text.{name}" for name in ("delta", "delta", "done")]
    text = [f"response.output_text.{name}" for name in ("delta", "delta", "done")]
    assert [event["type"] for event in events] == [
        "response.created", "response.in_progress",
        f"{item}.added", f"{part}.added", *thoughts, f"{part}.done", f"{item}.done",
        f"{item}.added", f"{part}.added", *text, f"{part}.done", f"{item}.done",
        *call, *call, "response.completed",
    ]  # fmt: skip
    assert events[0]["response"]["output"] == []
    added = [event["item"] for event in events if event["type"] == f"{item}.added"]
    done = [event["item"] for event in events if event["type"] == f"{item}.done"]
    response = events[-1]["response"]
    assert (
        [one["id"] for one in added]
        == [one["id"] for one in done]
        == [one["id"] for one in response["output"]]
    )
    assert {one["status"] for one in added} == {"in_progress"}
    assert done == response["output"]
    assert shapes(response["output"]) == shapes(whole["output"])
    assert [one["type"] for one in done] == ["reasoning", "message", "function_call", "function_call"]
    assert (done[0]["content"], done[0]["summary"]) == ([{"type": "reasoning_text", "text": "hm"}], [])
    assert done[2]["arguments"] == '{"x":1}'
    assert done[2]["call_id"] != done[3]["call_id"]
    assert {event["output_index"] for event in events if "output_index" in event} == {0, 1, 2, 3}


async def test_space_before_a_call_is_no_message_and_no_answer_is_an_empty_one():
    async with fake_server(lambda _: ["\n\n", CALL]) as (client, _):
        assert [item["type"] for item in (await post(client, tools=[TOOL]))["output"]] == ["function_call"]
    async with fake_server(lambda _: ["\n\n"]) as (client, _):
        (message,) = (await post(client, tools=[TOOL]))["output"]
        assert message["content"][0]["text"] == ""
    async with fake_server(lambda _: []) as (client, _):
        assert (await stream(client))[-1]["response"]["output"][0]["content"][0]["text"] == ""


async def test_parallel_calls_can_be_forbidden():
    async with fake_server(lambda _: [CALL, CALL]) as (client, _):
        got = await post(client, tools=[TOOL], parallel_tool_calls=False)
    assert [item["type"] for item in got["output"]] == ["function_call"]
    assert got["parallel_tool_calls"] is False


async def test_log_probabilities():
    async with fake_server() as (client, engines):
        got = await post(client, include=["message.output_text.logprobs"], top_logprobs=2)
        events = await stream(client, top_logprobs=1)
    logprobs = got["output"][0]["content"][0]["logprobs"]
    assert [token["token"] for token in logprobs] == ["Hel", "lo", " you"]
    assert len(logprobs[0]["top_logprobs"]) == 2
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert [token["token"] for event in deltas for token in event["logprobs"]] == ["Hel", "lo", " you"]
    assert [request.sampling.logprobs for request in engines["m"].requests] == [2, 1]


async def test_a_format_a_choice_of_tools_and_an_effort_reach_the_engine():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    named = {"type": "json_schema", "name": "a", "schema": schema, "strict": True}
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "add"}]}
    async with fake_server() as (client, engines):
        await post(client, text={"format": named}, reasoning={"effort": "low", "summary": "auto"})
        await post(client, text={"format": {"type": "json_object"}})
        await post(client, tools=[TOOL], tool_choice={"type": "function", "name": "add"})
        await post(client, tools=[TOOL, TOOL | {"name": "sub"}], tool_choice=allowed)
        await post(client, tools=[TOOL], tool_choice="none")
    requests = engines["m"].requests
    constraints = [request.sampling.constraint for request in requests]
    assert [one and one.kind for one in constraints] == [
        "json_schema",
        "json_object",
        *["json_schema"] * 2,
        None,
    ]
    assert requests[0].template_options == {"reasoning_effort": "low"}
    assert [[tool["function"]["name"] for tool in request.tools] for request in requests[2:]] == [
        ["add"],
        ["add"],
        [],
    ]


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"background": True}, "background", "background"),
    ({"conversation": "conv_1"}, "conversation", "previous_response_id"),
    ({"prompt": {"id": "p"}}, "prompt", "prompt"),
    ({"truncation": "auto"}, "truncation", "oldest"),
    ({"text": {"verbosity": "low"}}, "text.verbosity", "instructions"),
    ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema", "required"),
    ({"text": {"form": 1}}, "text.form", "not supported"),
    ({"reasoning": {"context": "auto"}}, "reasoning.context", "not supported"),
    ({"reasoning_effort": "low"}, "reasoning_effort", "reasoning.effort"),
    ({"max_tokens": 5}, "max_tokens", "max_output_tokens"),
    ({"max_output_tokens": 0}, "max_output_tokens", "no answer"),
    ({"messages": [{"role": "user", "content": "x"}]}, "messages", "use input"),
    ({"input": None}, "input", "required"),
    ({"input": []}, "input", "required"),
    ({"n": 2}, "n", "chat/completions"),
    ({"include": ["output"]}, "include[0]", "logprobs"),
    ({"metadata": {"a": "x" * 513}}, "metadata[...]", "wrong"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "'web_search'"),
    ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type", "'custom'"),
    ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "tools[0].name", "not in 'function'"),
    ({"tools": [TOOL | {"name": "a b"}]}, "tools[0].name", "tools[0].name"),
    ({"tools": [TOOL | {"parameters": 5}]}, "tools[0].parameters", "wrong"),
    ({"tools": [TOOL | {"defer_loading": True}]}, "tools[0].defer_loading", "not supported"),
    ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice", "auto"),
    ({"tools": [TOOL], "tool_choice": {"type": "web_search"}}, "tool_choice", "not supported"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "sub"}}, "tool_choice", "add"),
    ({"tool_choice": "required"}, "tool_choice", "needs tools"),
    ({"previous_response_id": "resp_none"}, "previous_response_id", "store=false"),
]  # fmt: skip


async def test_what_would_change_the_answer_and_is_not_supported_is_named():
    async with fake_server() as (client, engines):
        for body, param, words in REFUSED:
            status, named, message = await refused(client, **body)
            assert (status, named) == (400, param), (body, message)
            assert words in message
    assert not engines


async def test_what_asks_for_nothing_is_accepted():
    nothing = {
        "background": False, "conversation": None, "truncation": "disabled", "text": {"verbosity": "medium"},
        "include": ["reasoning.encrypted_content"], "max_tool_calls": 3, "prompt_cache_key": "k",
        "safety_identifier": "s", "service_tier": "auto", "stream_options": {"include_obfuscation": False},
        "tools": [TOOL | {"defer_loading": False, "description": None}], "client_metadata": {"a": "b"}, "user": "u",
        "reasoning": {"effort": None, "summary": None}, "max_output_tokens": -1, "parallel_tool_calls": True,
    }  # fmt: skip
    async with fake_server() as (client, _):
        assert (await post(client, **nothing))["status"] == "completed"


async def test_a_conversation_goes_on_with_what_is_kept():
    async with fake_server() as (client, engines):
        first = await post(client, instructions="Be brief.", input="one")
        ended = (await stream(client, input="two", previous_response_id=first["id"]))[-1]["response"]
        assert ended["previous_response_id"] == first["id"]
        answered = {"type": "item_reference", "id": ended["output"][0]["id"]}
        await post(client, input=[answered, {"role": "user", "content": "three"}])
        got = (await client.get(f"{URL}/{ended['id']}")).json()
        assert got == ended
        items = f"{URL}/{ended['id']}/input_items"
        page = (await client.get(items, params={"order": "asc", "limit": 2})).json()
        assert (page["has_more"], page["last_id"]) == (True, page["data"][1]["id"])
        rest = (await client.get(items, params={"order": "asc", "after": page["last_id"]})).json()
        newest = (await client.get(items)).json()["data"][0]
        assert rest["data"] == [newest]
        assert newest["content"] == [{"type": "input_text", "text": "two"}]
        await client.delete(f"{URL}/{first['id']}")  # what goes on with it stays
        await post(client, input="four", previous_response_id=ended["id"])
    said = [[turn.content for turn in request.messages or ()] for request in engines["m"].requests]
    assert said[1:] == [
        ["one", "Hello you", "two"],
        ["Hello you", "three"],
        ["one", "Hello you", "two", "Hello you", "four"],
    ]


async def test_a_response_is_there_when_its_last_event_is():
    """A client goes on as soon as it has read the id."""
    async with (
        guarded_server() as server,
        server.client.stream("POST", URL, json={"model": "m", "input": "hi", "stream": True}) as response,
    ):
        async for line in response.aiter_lines():
            if line.startswith("data: ") and '"response.completed"' in line:
                found = json.loads(line.removeprefix("data: "))["response"]["id"]
                assert (await server.client.get(f"{URL}/{found}")).status_code == 200
                return
    pytest.fail("the stream has not ended")


async def test_what_is_not_kept_is_not_found():
    async with fake_server() as (client, _):
        found = (await post(client, store=False))["id"]
        assert (await refused(client, previous_response_id=found))[:2] == (400, "previous_response_id")
        kept = (await post(client))["id"]
        for method, path, status in (
            ("GET", found, 404), ("DELETE", found, 404), ("GET", f"{found}/input_items", 404),
            ("POST", f"{found}/cancel", 404), ("POST", f"{kept}/cancel", 400), ("GET", f"{kept}?stream=true", 400),
            ("GET", f"{kept}/input_items?limit=0", 400), ("GET", f"{kept}/input_items?order=up", 400),
            ("GET", f"{kept}/input_items?after=x", 400), ("DELETE", kept, 200), ("GET", kept, 404),
        ):  # fmt: skip
            response = await client.request(method, f"{URL}/{path}")
            assert response.status_code == status, (method, path, response.text)
            if status != 200:
                assert response.json()["error"]["message"]


async def test_one_key_never_reads_what_another_has():
    async with guarded_server(keys="one:use,two:use") as server:
        one, two = {"x-api-key": "one"}, {"x-api-key": "two"}
        body = {"model": "m", "input": "hi"}
        mine = (await server.client.post(URL, json=body, headers=one)).json()
        path = f"{URL}/{mine['id']}"
        assert (await server.client.get(path, headers=two)).status_code == 404
        assert (await server.client.delete(path, headers=two)).status_code == 404
        item = {"type": "item_reference", "id": mine["output"][0]["id"]}
        for more in ({"previous_response_id": mine["id"]}, {"input": [item]}):
            assert (await server.client.post(URL, json=body | more, headers=two)).status_code == 400
            assert (await server.client.post(URL, json=body | more, headers=one)).status_code == 200
        assert (await server.client.get(path)).status_code == 401


async def test_errors_have_their_status_and_in_mid_stream_their_event():
    async with fake_server(lambda _: [QueueFullError("the queue is full")]) as (client, _):
        response = await client.post(URL, json={"model": "m", "input": "hi", "stream": True})
        assert (response.status_code, response.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    async with fake_server(lambda _: ["a", EngineLostError("the engine has ended")]) as (client, _):
        events = await stream(client)
        last = events[-1]["response"]
        assert (events[-1]["type"], last["status"], last["error"]["code"]) == (
            "response.failed", "failed", "server_error",
        )  # fmt: skip
        (item,) = last["output"]  # with what was said before
        assert (item["status"], item["content"][0]["text"]) == ("incomplete", "a")
        assert (await client.get(f"{URL}/{last['id']}")).status_code == 404


async def test_a_client_that_leaves_ends_its_answer():
    never = asyncio.Event()
    async with fake_server(lambda _: ["a", never]) as (client, engines):
        async with client.stream("POST", URL, json={"model": "m", "input": "hi", "stream": True}) as response:
            async for _ in response.aiter_lines():
                break
        await asyncio.wait_for(engines["m"].idle.wait(), 10)
