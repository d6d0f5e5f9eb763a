"""What requests with tools, formats and structured outputs ask the engine for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lqmf_runner.engine.sandbox.constraints import grammar_of
from lqmf_runner.errors import FieldError
from lqmf_runner.types import Constraint, GenerationRequest
from tests.support.server.openai_bodies import TOOL, chat


def requested(body: dict[str, Any]) -> GenerationRequest:
    """What a chat with these fields asks the engine for."""
    return chat(**body).requests[0]


def accepts(constraint: Constraint, text: str) -> bool:
    """Whether llguidance takes the text for a whole answer."""
    import llguidance

    bytes_only = llguidance.LLTokenizer("byte")
    matcher = llguidance.LLMatcher(bytes_only, grammar_of(constraint), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    tokens = bytes_only.tokenize_str(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


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
def test_constraints(asked: dict[str, Any], constraint: tuple[str, str] | None):
    found = requested(asked).sampling.constraint
    assert (found and (found.kind, found.value)) == constraint


@pytest.mark.parametrize("parallel", [True, None])
def test_parameters_may_refer_to_their_own_definitions(parallel: bool | None):
    point = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    parameters = {"$defs": {"P": point}, "type": "object", "properties": {"p": {"$ref": "#/$defs/P"}}}
    tools = [TOOL, {"type": "function", "function": {"name": "draw", "parameters": parameters}}]
    body = {"tools": tools, "tool_choice": "required", "parallel_tool_calls": parallel}
    constraint = requested(body).sampling.constraint
    assert constraint is not None
    call = {"name": "draw", "arguments": {"p": {"x": 1}}}
    good, bad = ([call, call], [{**call, "arguments": {"p": {}}}]) if parallel else (call, [call])
    assert accepts(constraint, json.dumps(good))
    assert not accepts(constraint, json.dumps(bad))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        (
            {"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}},
            "structured_outputs",
        ),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "no"}}}, "tool_choice"),
        (
            {"tools": [TOOL], "tool_choice": "required", "response_format": {"type": "json_object"}},
            "tool_choice",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(body: dict[str, Any], param: str) -> None:
    with pytest.raises(FieldError) as caught:
        requested(body)
    assert caught.value.param == param


def test_a_tool_is_offered_as_it_was_sent() -> None:
    function = {"parameters": {"z": 1, "a": None}, "name": "f", "return": {"type": "string"}, "strict": True}
    tool = {"function": function, "type": "function", "x": 1}
    (offered,) = chat(tools=[tool]).requests[0].tools
    assert json.dumps(offered) == json.dumps(tool)
    (offered,) = chat(tools=[{"function": {"name": "f"}}]).requests[0].tools
    assert offered == {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({}, "tools[1].function"),
        ({"function": {}}, "tools[1].function.name"),
        ({"function": {"name": "has space"}}, "tools[1].function.name"),
        ({"function": {"name": "f", "parameters": "{}"}}, "tools[1].function.parameters"),
        ({"type": "other", "function": {"name": "f"}}, "tools[1].type"),
    ],
)
def test_a_malformed_tool_is_refused_by_its_place(tool: dict[str, Any], param: str) -> None:
    with pytest.raises(FieldError) as refusal:
        chat(tools=[TOOL, tool])
    assert refusal.value.param == param
