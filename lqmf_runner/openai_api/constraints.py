"""The constraint on an answer that follows from `response_format`, `structured_outputs` and `tool_choice`."""

from __future__ import annotations

import json
from typing import Any

from ..errors import FieldError
from ..types import Constraint
from .body import converted
from .schemas import (
    ChatCompletionRequest,
    NamedToolChoice,
    OfferedTools,
    ResponseFormat,
    StructuredOutputs,
    Tool,
)

MAX_REQUIRED = 8


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
    """The tools to offer, as they were sent, and the constraint that makes the answer a call of one of them.

    A required answer is one call; up to `MAX_REQUIRED` where parallel_tool_calls is true, not just left out, as a
    small model would go on calling.

    Raises:
        FieldError: a tool is malformed, or one is chosen that is not there.
    """
    choice, given = data.tool_choice, data.tools or []
    tools = converted({"tools": given}, OfferedTools).tools
    names = [tool.function.name for tool in tools]
    if len(set(names)) < len(names):
        raise FieldError("two tools have the same name", param="tools")
    if not tools:
        if choice not in (None, "none", "auto"):
            raise FieldError("tool_choice needs tools", param="tool_choice")
        return (), None
    if choice == "none":
        return (), None
    offered = tuple(tool if "type" in tool else {"type": "function", **tool} for tool in given)
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
    several = choice == "required" and bool(data.parallel_tool_calls)
    at = "#/items" if several else "#"
    try:
        call = {"anyOf": [_call_schema(tool, f"{at}/anyOf/{index}") for index, tool in enumerate(wanted)]}
    except RecursionError:
        raise _too_deep("tools") from None
    schema = {"type": "array", "items": call, "minItems": 1, "maxItems": MAX_REQUIRED} if several else call
    return offered, Constraint("json_schema", _json(schema, "tools"))


def _of_format(response_format: ResponseFormat | None) -> Constraint | None:
    if response_format is None or response_format.type == "text":
        return None
    if response_format.type == "json_object":
        return Constraint("json_object")
    if response_format.json_schema is None or response_format.json_schema.schema is None:
        raise FieldError(
            "'response_format.json_schema.schema' is required", param="response_format.json_schema.schema"
        )
    return Constraint("json_schema", _json(response_format.json_schema.schema, "response_format"))


def _of_structured(structured: StructuredOutputs | None) -> Constraint | None:
    if structured is None:
        return None
    found = []
    if structured.json is not None:
        schema = structured.json
        found.append(
            Constraint(
                "json_schema", schema if isinstance(schema, str) else _json(schema, "structured_outputs")
            )
        )
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


def _json(schema: Any, param: str) -> str:
    try:
        return json.dumps(schema)
    except RecursionError:
        raise _too_deep(param) from None


def _too_deep(param: str) -> FieldError:
    return FieldError(f"a schema in '{param}' is nested too deeply", param=param)


def _call_schema(tool: Tool, at: str) -> dict[str, Any]:
    """The schema of a call that stands at `at` in the schema of the answer."""
    parameters = tool.function.parameters or {"type": "object"}
    return {
        "type": "object",
        "properties": {
            "name": {"const": tool.function.name},
            "arguments": _moved(parameters, f"{at}/properties/arguments"),
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _moved(schema: Any, to: str) -> Any:
    """A schema whose references to places in itself still hold when it stands at `to` in another."""
    if isinstance(schema, list):
        return [_moved(item, to) for item in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {name: _moved(value, to) for name, value in schema.items()}
    target = moved.get("$ref")
    if isinstance(target, str) and (target == "#" or target.startswith("#/")):
        moved["$ref"] = to + target[1:]
    return moved
