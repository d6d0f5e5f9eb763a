"""Reading tool calls out of answers, and what requests with tools ask the engine for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lqmf_runner.engine.sandbox.constraints import grammar_of
from lqmf_runner.openai_api.tool_calls import ToolCallReader
from lqmf_runner.types import Constraint

from ...support.fakes import fake_server
from .test_openai_chat import MESSAGES, URL, stream

TOOL = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}},
}
CALL = '<tool_call>\n{"name": "add", "arguments": {"x": 1}}\n</tool_call>'


def read(text: str, size: int, *, parallel: bool = True) -> tuple[str, list[tuple[str, Any]]]:
    """The plain text and the calls of an answer that comes in pieces of `size` characters."""
    reader = ToolCallReader({"add"}, parallel=parallel)
    parts = [reader.feed(text[at : at + size]) for at in range(0, len(text), size)] + [reader.end()]
    calls = [
        (call.function.name, json.loads(call.function.arguments)) for _, found in parts for call in found
    ]
    return "".join(plain for plain, _ in parts), calls


def accepts(constraint: Constraint, text: str) -> bool:
    """Whether llguidance takes the text for a whole answer."""
    import llguidance

    bytes_only = llguidance.LLTokenizer("byte")
    matcher = llguidance.LLMatcher(bytes_only, grammar_of(constraint), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    tokens = bytes_only.tokenize_str(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


ADD = ("add", {"x": 1})


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "plain", "calls"),
    [
        (f"Well. {CALL}", "Well. ", [ADD]),
        (f"{CALL}\n{CALL} done", " done", [ADD, ADD]),
        ('{"name": "add", "parameters": {"x": 1}}', "", [ADD]),
        ('<|python_tag|>{"name": "add", "parameters": {"x": 1}}', "", [ADD]),
        ('{"name": "add", "arguments": {"x": 1}}; {"name": "add", "arguments": {"x": 1}}', "", [ADD, ADD]),
        ('[{"name": "add", "arguments": {"x": 1}}]', "", [ADD]),
        ('<tool_call>{"name": "add", "arguments": {"x": 1}}', "", [ADD]),
        ('[TOOL_CALLS] [{"name": "add", "arguments": {"x": 1}}]', "", [ADD]),
        ('[TOOL_CALLS]add[ARGS]{"x": 1}[TOOL_CALLS]add[CALL_ID]c1[ARGS]{"x": 1}', "", [ADD, ADD]),
        ('add{"x": 1}add{"x": 1}', "", [ADD, ADD]),
        ("add two", "add two", []),
        ('{"name": "Paris", "arguments": {}}', '{"name": "Paris", "arguments": {}}', []),
        ('<tool_call>{"name": "new", "arguments": {}}</tool_call>', "", [("new", {})]),
        ("a < b <tool", "a < b <tool", []),
        ("<tool_call>nonsense</tool_call>", "<tool_call>nonsense</tool_call>", []),
        ('{"answer": 42}', '{"answer": 42}', []),
        ('{"name": "add", "arguments": {"x"', '{"name": "add", "arguments": {"x"', []),
        ("", "", []),
    ],
)
def test_reading(text: str, size: int, plain: str, calls: list[Any]):
    assert read(text, size) == (plain, calls)


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    "text", [f"{CALL}\n{CALL}", '[{"name": "add", "arguments": {"x": 1}}, {"name": "add"}]']
)
def test_one_call_where_they_may_not_be_parallel(text: str, size: int):
    assert read(text, size, parallel=False) == ("", [ADD])


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


@pytest.mark.parametrize("parallel", [True, None])
async def test_parameters_may_refer_to_their_own_definitions(parallel: bool | None):
    point = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    parameters = {"$defs": {"P": point}, "type": "object", "properties": {"p": {"$ref": "#/$defs/P"}}}
    tools = [TOOL, {"type": "function", "function": {"name": "draw", "parameters": parameters}}]
    body = {"model": "m", "messages": MESSAGES, "tools": tools, "tool_choice": "required"}
    async with fake_server(lambda _: ["{}"]) as (client, engines):
        response = await client.post(URL, json=body | {"parallel_tool_calls": parallel})
        assert response.status_code == 200
    constraint = engines["m"].requests[0].sampling.constraint
    call = {"name": "draw", "arguments": {"p": {"x": 1}}}
    good, bad = ([call, call], [{**call, "arguments": {"p": {}}}]) if parallel else (call, [call])
    assert accepts(constraint, json.dumps(good))
    assert not accepts(constraint, json.dumps(bad))


async def test_calls_and_their_results_go_to_the_template_as_objects():
    turns = [
        *MESSAGES,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    ]
    async with fake_server() as (client, engines):
        response = await client.post(URL, json={"model": "m", "messages": turns})
        assert response.status_code == 200
    messages = engines["m"].requests[0].messages
    assert messages[1].tool_calls[0]["function"] == {"name": "add", "arguments": {"x": 1}}
    assert messages[2].tool_call_id == "c1"


@pytest.mark.parametrize(
    ("asked", "constraint"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, ("json_object", "")),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"type": "null"}},
                }
            },
            ("json_schema", '{"type": "null"}'),
        ),
        ({"structured_outputs": {"regex": "a+"}}, ("regex", "a+")),
        ({"structured_outputs": {"choice": ["a", "b"]}}, ("choice", '["a", "b"]')),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, ("lark", 'start: "a"')),
        ({"structured_outputs": {"json": {"type": "null"}}}, ("json_schema", '{"type": "null"}')),
    ],
)
async def test_constraints(asked: dict[str, Any], constraint: tuple[str, str] | None):
    async with fake_server() as (client, engines):
        response = await client.post(URL, json={"model": "m", "messages": MESSAGES} | asked)
        assert response.status_code == 200, response.text
    found = engines["m"].requests[0].sampling.constraint
    assert (found and (found.kind, found.value)) == constraint


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
