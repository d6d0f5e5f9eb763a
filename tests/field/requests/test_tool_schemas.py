"""Schemas as tool servers and validators write them: no tool is lost for a keyword that no grammar has.

OpenAI's API keeps what it can of a tool that is not strict. Where a schema is a promise (a strict tool, a
`response_format`), what cannot be kept is refused with the keyword or the reason. Reported as hermes-agent #18530,
llama.cpp #19051 and #16790 (patterns, formats and references of MCP tools), llamadart #584.
"""

from __future__ import annotations

from typing import Any

import llguidance
import pytest

from lqmf_runner.engine.sandbox.constraints import ConstraintCompiler, grammar_of
from lqmf_runner.errors import InvalidRequestError
from lqmf_runner.types import Constraint

from ...support.server.openai_bodies import chat

X = {"x": {"type": "integer"}}
UNKEPT: list[dict[str, Any]] = [
    {"properties": {"x": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}}},
    {"properties": {"x": {"type": "string", "format": "decimal"}}},
    {"properties": {"x": {"type": "object", "propertyNames": {"enum": ["a"]}}}},
    {"properties": {**X, "y": {"not": {"type": "string"}}}},
    {"properties": X, "if": {"required": ["x"]}, "then": {"minProperties": 1}},
    {"properties": X, "dependentRequired": {"x": ["y"]}},
]
KEPT: list[dict[str, Any]] = [
    {"properties": {"x": {"type": "string", "pattern": "^\\d{4,4}$"}}},
    {"properties": {"x": {"type": "string", "pattern": "^hello there\\!$"}}},
    {"properties": {"x": {"anyOf": [{"type": "string"}, {"items": {"$ref": "#/properties/x/anyOf/0"}}]}}},
    {"$schema": "http://json-schema.org/draft-07/schema#", "title": "T", "properties": X, "examples": [{}]},
    {"discriminator": {"propertyName": "x"}, "oneOf": [{"properties": X}]},
]


def called(parameters: dict[str, Any], strict: bool | None = None) -> Constraint:
    """The constraint of a call of a tool with these parameters that has to be made."""
    function = {"name": "f", "strict": strict, "parameters": {"type": "object", **parameters}}
    constraint = (
        chat(tools=[{"type": "function", "function": function}], tool_choice="required")
        .requests[0]
        .sampling.constraint
    )
    assert constraint is not None
    return constraint


def problem(constraint: Constraint) -> str:
    return str(llguidance.LLMatcher.validate_grammar(grammar_of(constraint)))


@pytest.mark.parametrize("parameters", [*UNKEPT, *KEPT], ids=str)
def test_a_tool_that_is_not_strict_can_be_called_whatever_its_schema(parameters: dict[str, Any]) -> None:
    assert problem(called(parameters)) == ""


@pytest.mark.parametrize("parameters", UNKEPT, ids=str)
def test_a_promise_that_cannot_be_kept_is_refused(parameters: dict[str, Any]) -> None:
    assert problem(called(parameters, strict=True))
    schema = {"type": "object", **parameters}
    asked = chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    constraint = asked.requests[0].sampling.constraint
    assert constraint is not None
    assert problem(constraint)


def test_the_reason_why_a_pattern_cannot_be_kept_is_told() -> None:
    constraint = called({"properties": {"x": {"type": "string", "pattern": "^(?!a)b"}}})
    with pytest.raises(InvalidRequestError, match="look-around, including look-ahead"):
        ConstraintCompiler(None, 0).compile(constraint)  # type: ignore[arg-type]
