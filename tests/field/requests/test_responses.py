"""What clients and other servers of the Responses API trip over.

Calls come as text deltas (vllm #29725); outputs of tools in parts are refused (llama.cpp #23553); an id that has just
been streamed is not found (lmstudio-bug-tracker #1188); events lack their number, the format or details of usage
(litellm #28899), or begin without their item (litellm #22102); instructions and developer messages become several
system messages, which templates refuse (dynamo #10206, litellm #39282, mlx-vlm #1716); calls have no status
(tt-inference-server #2433); other tools are refused without a name (llama.cpp #20156).
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
    for kind in ("web_search", "local_shell", "custom", "mcp", "namespace"):
        body = {"model": "m", "input": "hi", "tools": [TOOL, {"type": kind, "name": "x"}]}
        response = await served[0].post(URL, json=body)
        error = response.json()["error"]
        assert (response.status_code, error["param"]) == (400, "tools[1].type")
        assert kind in error["message"]
