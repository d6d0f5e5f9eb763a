"""What clients and other servers of the Responses API trip over.

Calls come as text deltas (vllm #29725); outputs of tools in parts are refused (llama.cpp #23553); an id that has just
been streamed is not found (lmstudio-bug-tracker #1188); events lack their number, the format or details of usage
(litellm #28899), or begin without their item (litellm #22102); instructions and developer messages become several
system messages, which templates refuse (dynamo #10206, litellm #39282, mlx-vlm #1716); calls have no status
(tt-inference-server #2433); other tools are refused without a name (llama.cpp #20156); calls of functions in
namespaces come back under a joined name, which Codex does not know (omlx #3371). What Codex sends was recorded from
its version 0.171.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from lqmf_runner.types import GenerationRequest

from ...support.server.fakes import FakeEngine, fake_server

pytestmark = pytest.mark.asyncio(loop_scope="module")
URL = "/v1/responses"
TOOL = {"type": "function", "name": "shell", "parameters": {"type": "object"}, "strict": False}
CALL = '<tool_call>{"name": "shell", "arguments": {"command": ["ls"]}}</tool_call>'


def script(request: GenerationRequest) -> list[str]:
    return [*CALL] if request.tools and (request.messages or ())[-1].role == "user" else ["Hel", "lo"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[tuple[httpx.AsyncClient, dict[str, FakeEngine]]]:
    async with fake_server(script) as served:
        yield served


Served = tuple[httpx.AsyncClient, dict[str, FakeEngine]]


async def events(client: httpx.AsyncClient, **body: Any) -> list[Any]:
    response = await client.post(URL, json={"model": "m", "input": "hi", "stream": True} | body)
    assert response.status_code == 200, response.text
    lines = [line for line in response.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


async def test_a_call_is_never_streamed_as_text(served: Served) -> None:
    got = await events(served[0], tools=[TOOL])
    assert not [event for event in got if "output_text" in event["type"]]
    arguments = [event["delta"] for event in got if event["type"] == "response.function_call_arguments.delta"]
    (call,) = got[-1]["response"]["output"]
    assert json.loads("".join(arguments)) == json.loads(call["arguments"]) == {"command": ["ls"]}
    assert call["status"] == "completed"


async def test_every_delta_has_its_item_and_every_event_its_number(served: Served) -> None:
    got = await events(served[0])
    added: set[str] = set()
    for number, event in enumerate(got):
        assert event["sequence_number"] == number
        if event["type"] == "response.output_item.added":
            added.add(event["item"]["id"])
        elif "item_id" in event:
            assert event["item_id"] in added
    response = got[-1]["response"]
    assert response["text"]["format"] == {"type": "text"}
    assert {"cached_tokens"} <= response["usage"]["input_tokens_details"].keys()
    assert response["usage"]["output_tokens_details"] == {"reasoning_tokens": 0}


async def test_the_id_of_a_stream_goes_on_at_once(served: Served) -> None:
    client, engines = served
    ended = (await events(client, input="one"))[-1]["response"]
    await events(client, input="two", previous_response_id=ended["id"])
    assert [turn.content for turn in engines["m"].requests[-1].messages or ()] == ["one", "Hello", "two"]


async def test_the_first_and_the_next_request_of_codex(served: Served) -> None:
    """Instructions, developer messages, and the whole history with thoughts, a call and its output in parts."""
    client, engines = served

    def message(role: str, text: str, kind: str = "input_text") -> dict[str, Any]:
        return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}

    asked: dict[str, Any] = {
        "instructions": "You are a coding agent.",
        "input": [
            message("developer", "Permissions."), message("user", "# AGENTS.md"), message("user", "list files"),
        ],
        "tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False, "store": False, "stream": True,
        "reasoning": {"effort": "medium", "summary": "auto"}, "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0192", "client_metadata": {"x-codex-installation-id": "1"},
    }  # fmt: skip
    first = (await events(client, **asked))[-1]["response"]
    call = first["output"][-1]
    thoughts = {"type": "reasoning", "summary": [], "content": None, "encrypted_content": None}
    output = [{"type": "output_text", "text": "a.py"}]
    history = [thoughts, {name: call[name] for name in ("type", "name", "arguments", "call_id")},
               {"type": "function_call_output", "call_id": call["call_id"], "output": output}]  # fmt: skip
    last = (await events(client, **asked | {"input": [*asked["input"], *history]}))[-1]["response"]
    assert last["output"][0]["content"][0]["text"] == "Hello"
    turns = engines["m"].requests[-1].messages or ()
    assert [turn.role for turn in turns] == ["system", "user", "user", "assistant", "tool"]
    assert turns[0].content == "You are a coding agent.\n\nPermissions."
    assert turns[-1].content == "a.py"


async def test_a_tool_that_is_no_function_is_named(served: Served) -> None:
    for kind in ("web_search", "local_shell", "custom", "mcp", "tool_search"):
        body = {"model": "m", "input": "hi", "tools": [TOOL, {"type": kind, "name": "x"}]}
        response = await served[0].post(URL, json=body)
        error = response.json()["error"]
        assert (response.status_code, error["param"]) == (400, "tools[1].type")
        assert kind in error["message"]


def docs(**more: Any) -> dict[str, Any]:
    """What Codex makes of a tool server, and its search without a web."""
    return {
        "tools": [
            TOOL,
            {"type": "namespace", "name": "mcp__docs", "description": "Search the docs.", "tools": [
                {"type": "function", "name": "find", "description": "Finds", "strict": False, "parameters": FIND},
                {"type": "function", "name": "shell", "strict": False, "parameters": FIND},
            ]},
            {"type": "web_search", "external_web_access": False},
        ],
    } | more  # fmt: skip


FIND = {
    "type": "object",
    "properties": {"q": {"type": "string"}},
    "required": ["q"],
    "additionalProperties": False,
}
FOUND = '<tool_call>{"name": "mcp__docs__find", "arguments": {"q": "x"}}</tool_call>'


def script_of_docs(request: GenerationRequest) -> list[str]:
    return [*FOUND] if (request.messages or ())[-1].role == "user" else ["Hel", "lo"]


async def test_functions_in_a_namespace_are_offered_and_called_with_both_names() -> None:
    async with fake_server(script_of_docs) as (client, engines):
        got = await events(client, **docs())
        whole = (await client.post(URL, json={"model": "m", "input": "hi", **docs()})).json()
        (call,) = got[-1]["response"]["output"]
        for made in (call, whole["output"][0]):
            assert (made["name"], made["namespace"], made["arguments"]) == ("find", "mcp__docs", '{"q":"x"}')
        added, done = (event["item"] for event in got if event["type"].startswith("response.output_item"))
        assert (added["name"], added["namespace"], done) == ("find", "mcp__docs", call)
        (arguments,) = (event for event in got if event["type"].endswith("arguments.done"))
        assert arguments["name"] == "find"
        assert [tool["type"] for tool in whole["tools"]] == ["function", "namespace"]
        assert [tool["name"] for tool in whole["tools"][1]["tools"]] == ["find", "shell"]
        # sent back, and kept
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "found"}
        await events(client, **docs(input=[{"role": "user", "content": "hi"}, call, output]))
        kept = output | {"call_id": whole["output"][0]["call_id"]}
        await events(client, **docs(input=[kept], previous_response_id=whole["id"]))
    names = [[tool["function"]["name"] for tool in request.tools] for request in engines["m"].requests]
    assert names == [["shell", "mcp__docs__find", "mcp__docs__shell"]] * 4
    assert engines["m"].requests[0].tools[1]["function"]["description"] == "Search the docs.\n\nFinds"
    for request in engines["m"].requests[2:]:
        turns = request.messages or ()
        assert [turn.role for turn in turns] == ["user", "assistant", "tool"]
        assert turns[1].tool_calls[0]["function"] == {"name": "mcp__docs__find", "arguments": {"q": "x"}}


async def test_a_choice_reaches_into_namespaces(served: Served) -> None:
    client, engines = served
    named = {"type": "function", "name": "find", "namespace": "mcp__docs"}
    allowed = [{"type": "namespace", "name": "mcp__docs"}, {"type": "function", "name": "shell"}]
    inside = {"type": "function", "name": "shell", "namespace": "mcp__docs"}
    await events(client, **docs(tool_choice=named))
    for tools in (allowed, [inside]):
        await events(client, **docs(tool_choice={"type": "allowed_tools", "mode": "auto", "tools": tools}))
    forced, several, one = engines["m"].requests[-3:]
    for odd in (5, {}, None):
        await events(client, **docs(tool_choice={"type": "function", "name": "shell", "namespace": odd}))
    assert '"const": "mcp__docs__find"' in str(forced.sampling.constraint)
    assert '"const": "shell"' not in str(forced.sampling.constraint)
    assert [tool["function"]["name"] for tool in several.tools] == [
        "shell", "mcp__docs__find", "mcp__docs__shell",
    ]  # fmt: skip
    assert [tool["function"]["name"] for tool in one.tools] == ["mcp__docs__shell"]


async def test_a_fault_in_a_namespace_is_named_where_it_stands(served: Served) -> None:
    find = {"type": "function", "name": "find"}
    for tools, param, words in (
        ([{"type": "namespace", "name": "n"}], "tools[0].tools", "required"),
        ([{"type": "namespace", "name": "n", "tools": [5]}], "tools[0].tools", "functions"),
        ([{"type": "namespace", "tools": [find]}], "tools[0].name", "required"),
        ([TOOL, {"type": "namespace", "name": "n", "tools": [find, find | {"name": "a b"}]}],
         "tools[1].tools[1].name", "tools[1].tools[1].name"),
        ([TOOL, {"type": "namespace", "name": "n", "tools": [find, find | {"parameters": 5}]}],
         "tools[1].tools[1].parameters", "wrong"),
        ([{"type": "namespace", "name": "n", "tools": [find, {"type": "custom", "name": "x"}]}],
         "tools[0].tools[1].type", "'custom'"),
        ([{"type": "namespace", "name": "n", "tools": [find, find]}], "tools", "same name"),
        ([find | {"name": "n__find"}, {"type": "namespace", "name": "n", "tools": [find]}], "tools", "same name"),
        ([{"type": "web_search", "external_web_access": True}], "tools[0].type", "web_search = 'disabled'"),
        ([{"type": "web_search"}], "tools[0].type", "web_search = 'disabled'"),
        ([{"type": "image_generation"}], "tools[0].type", "image_generation = false"),
    ):  # fmt: skip
        response = await served[0].post(URL, json={"model": "m", "input": "hi", "tools": tools})
        error = response.json()["error"]
        assert (response.status_code, error["param"]) == (400, param), error
        assert words in error["message"]


async def test_a_long_name_stays_without_its_namespace() -> None:
    long = {"type": "function", "name": "f" * 60}
    call = json.dumps({"name": long["name"], "arguments": {}})
    async with fake_server(lambda _: [f"<tool_call>{call}</tool_call>"]) as (client, _):
        got = await events(client, tools=[{"type": "namespace", "name": "mcp__docs__", "tools": [long]}])
    (made,) = got[-1]["response"]["output"]
    assert (made["name"], made["namespace"]) == (long["name"], "mcp__docs__")


async def test_a_tool_may_show_an_image_and_the_model_is_told(served: Served) -> None:
    """Codex's `view_image`, and tool servers; the conversation goes on."""
    client, engines = served
    image = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
    call = {"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "1"}
    output = {"type": "function_call_output", "call_id": "1"}
    shown = [{"type": "input_text", "text": "Look: "}, image, {"type": "input_file", "file_data": "x"}]
    await events(client, input=[{"role": "user", "content": "hi"}, call, output | {"output": shown}])
    told = (engines["m"].requests[-1].messages or ())[-1].content
    assert told == "Look: [an image: this model can read only text][a file: this model can read only text]"
    by_the_user = {"role": "user", "content": [image]}
    response = await client.post(URL, json={"model": "m", "input": [by_the_user]})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "input[0].content[0]")
