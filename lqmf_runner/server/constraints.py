"""From `response_format`, `structured_outputs` and `tool_choice` to what the answer must match."""

from __future__ import annotations

import json
from typing import Any

from ..types import Constraint
from .errors import FieldError
from .openai_schemas import ChatCompletionRequest, NamedToolChoice, ResponseFormat, StructuredOutputs, Tool


def answer_constraint(
    response_format: ResponseFormat | None, structured: StructuredOutputs | None
) -> Constraint | None:
    """The constraint that a request asks for.

    Raises:
        FieldError: a part of it is missing, or it asks for two.
    """
    first, second = _of_format(response_format), _of_structured(structured)
    if first and second:
        raise FieldError(
            "response_format and structured_outputs exclude each other", param="structured_outputs"
        )
    return first or second


def chosen_tools(data: ChatCompletionRequest) -> tuple[tuple[dict[str, Any], ...], Constraint | None]:
    """The tools to offer, and the constraint that makes the answer a call of one of them.

    Raises:
        FieldError: a tool is chosen that is not there.
    """
    choice, tools = data.tool_choice, data.tools or []
    names = [tool.function.name for tool in tools]
    if len(set(names)) < len(names):
        raise FieldError("two tools have the same name", param="tools")
    if not tools:
        if choice not in (None, "none", "auto"):
            raise FieldError("tool_choice needs tools", param="tool_choice")
        return (), None
    if choice == "none":
        return (), None
    offered = tuple(_plain(tool) for tool in tools)
    if choice is None or choice == "auto":
        return offered, None
    wanted = tools
    if isinstance(choice, NamedToolChoice):
        wanted = [tool for tool in tools if tool.function.name == choice.function.name]
        if not wanted:
            raise FieldError(
                f"there is no tool {choice.function.name!r}",
                param="tool_choice",
                hint=f"tools: {', '.join(names)}",
            )
    schema = (
        {"anyOf": [_call_schema(tool) for tool in wanted]} if len(wanted) > 1 else _call_schema(wanted[0])
    )
    return offered, Constraint("json_schema", json.dumps(schema))


def _of_format(response_format: ResponseFormat | None) -> Constraint | None:
    if response_format is None or response_format.type == "text":
        return None
    if response_format.type == "json_object":
        return Constraint("json_object")
    if response_format.json_schema is None or response_format.json_schema.schema is None:
        raise FieldError(
            "'response_format.json_schema.schema' is required", param="response_format.json_schema.schema"
        )
    return Constraint("json_schema", json.dumps(response_format.json_schema.schema))


def _of_structured(structured: StructuredOutputs | None) -> Constraint | None:
    if structured is None:
        return None
    found = []
    if structured.json is not None:
        schema = structured.json
        found.append(Constraint("json_schema", schema if isinstance(schema, str) else json.dumps(schema)))
    if structured.json_object:
        found.append(Constraint("json_object"))
    if structured.regex is not None:
        found.append(Constraint("regex", structured.regex))
    if structured.grammar is not None:
        found.append(Constraint("lark", structured.grammar))
    if structured.choice is not None:
        found.append(Constraint("choice", json.dumps(structured.choice)))
    if len(found) > 1:
        raise FieldError(
            "structured_outputs takes one of json, json_object, regex, grammar and choice",
            param="structured_outputs",
        )
    return found[0] if found else None


def _plain(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.function.name, "description": tool.function.description or ""}
    return {
        "type": "function",
        "function": function | {"parameters": tool.function.parameters or _NO_PARAMETERS},
    }


_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


def _call_schema(tool: Tool) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "name": {"const": tool.function.name},
            "arguments": tool.function.parameters or {"type": "object"},
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
