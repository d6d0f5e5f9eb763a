"""The constraint on an answer, from `response_format`, `structured_outputs` and similar fields, and from
`tool_choice`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ...errors import FieldError
from ...types import Constraint
from ..schemas import (
    Constrained,
    NamedToolChoice,
    OfferedTools,
    ResponseFormat,
    StructuredOutputs,
    Tool,
    ToolChoice,
)
from .body import converted

MAX_REQUIRED = 8
# llguidance's own key. Of a tool that is not strict, OpenAI's API keeps what it can of the schema, and tool servers
# describe arguments with keywords that no grammar has (`uniqueItems`, `not`, `format: uri-template`, ...).
_AS_FAR_AS_POSSIBLE = {"x-guidance": {"lenient": True}}


def answer_constraint(data: Constrained) -> Constraint | None:
    """The constraint that a request asks for, under any of its names.

    Raises:
        FieldError: a part of it is missing, or it asks for two.
    """
    given = {
        "response_format": _of_format(data.response_format),
        "structured_outputs": _of_structured(data.structured_outputs),
        "guided_choice": Constraint("choice", json.dumps(data.guided_choice)) if data.guided_choice else None,
        "guided_json": _of_schema(data.guided_json, "guided_json"),
        "guided_regex": Constraint("regex", data.guided_regex) if data.guided_regex else None,
        "format": format_constraint(data.format),
        "json_schema": _of_schema(data.json_schema, "json_schema"),
        "regex": Constraint("regex", data.regex) if data.regex else None,
    }
    found = {name: constraint for name, constraint in given.items() if constraint}
    if len(found) > 1:
        first, second = list(found)[:2]
        raise FieldError(f"{first} and {second} exclude each other", param=second)
    return next(iter(found.values()), None)


def or_calls(
    constraint: Constraint | None, tools: Sequence[Mapping[str, Any]], param: str = "tools"
) -> Constraint | None:
    """The constraint on an answer beside which tools are offered: a model that may call them may do so, too.

    Args:
        param: what names the tools in a refusal.

    Raises:
        FieldError: the constraint is a grammar, which calls cannot be added to.
    """
    if constraint is None or not tools:
        return constraint
    if constraint.kind == "lark":
        raise FieldError(
            "a grammar and tools exclude each other",
            param=param,
            hint='leave tools out, or tool_choice "none"',
        )
    return msgspec.structs.replace(constraint, calls=tuple(tool["function"]["name"] for tool in tools))


def format_constraint(wanted: Mapping[str, Any] | str | None) -> Constraint | None:
    """The constraint of Ollama's `format`: "json", or a schema."""
    return Constraint("json_object") if wanted == "json" else _of_schema(wanted, "format")


def _of_schema(schema: Mapping[str, Any] | str | bool | None, param: str) -> Constraint | None:
    """A schema given as an object or as JSON; an empty text is no schema."""
    if schema is None or schema == "":
        return None
    return Constraint("json_schema", schema if isinstance(schema, str) else _json(schema, param))


def chosen_tools(
    given: Sequence[dict[str, Any]], choice: ToolChoice | None, parallel: bool | None
) -> tuple[tuple[dict[str, Any], ...], Constraint | None]:
    """The tools to offer, as they were sent, and the constraint that makes the answer a call of one of them.

    A required answer is one call; up to `MAX_REQUIRED` where `parallel` is true, not just left out, as a small model
    would go on calling. Of a tool that is not strict, keywords that cannot be kept are passed over.

    Raises:
        FieldError: a tool is malformed, or one is chosen that is not there.
    """
    tools = _checked_tools(given)
    names = [tool.function.name for tool in tools]
    if not tools:
        if choice not in (None, "none", "auto"):
            raise FieldError("tool_choice needs tools", param="tool_choice")
        return (), None
    if choice == "none":
        return (), None
    offered = _offered(given)
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
    several = choice == "required" and bool(parallel)
    at = "#/items" if several else "#"
    try:
        call = {"anyOf": [_call_schema(tool, f"{at}/anyOf/{index}") for index, tool in enumerate(wanted)]}
    except RecursionError:
        raise _too_deep("tools") from None
    schema = {"type": "array", "items": call, "minItems": 1, "maxItems": MAX_REQUIRED} if several else call
    if not any(tool.function.strict for tool in wanted):
        schema = {**schema, **_AS_FAR_AS_POSSIBLE}
    return offered, Constraint("json_schema", _json(schema, "tools"))


def offered_tools(given: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """The tools that the model may call, as they were sent.

    Raises:
        FieldError: one is malformed.
    """
    _checked_tools(given)
    return _offered(given)


def _checked_tools(given: Sequence[dict[str, Any]]) -> list[Tool]:
    tools = converted({"tools": given}, OfferedTools).tools
    if len({tool.function.name for tool in tools}) < len(tools):
        raise FieldError("two tools have the same name", param="tools")
    return tools


def _offered(given: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    return tuple(tool if "type" in tool else {"type": "function", **tool} for tool in given)


def _of_format(response_format: ResponseFormat | None) -> Constraint | None:
    if response_format is None:
        return None
    named = response_format.json_schema.schema if response_format.json_schema else None
    if named is not None and response_format.schema is not None:
        raise FieldError("response_format has two schemas", param="response_format.schema")
    schema = response_format.schema if named is None else named
    match response_format.type:
        case "text" if schema is not None:
            raise FieldError("a response_format of type text has no schema", param="response_format.type")
        case "text":
            return None
        case "json_object" if schema is None:
            return Constraint("json_object")
        case "json_schema" if schema is None:
            raise FieldError(
                "'response_format.json_schema.schema' is required", param="response_format.json_schema.schema"
            )
    return _of_schema(schema, "response_format")


def _of_structured(structured: StructuredOutputs | None) -> Constraint | None:
    if structured is None:
        return None
    found = []
    if structured.json is not None:
        found.append(_of_schema(structured.json, "structured_outputs") or Constraint("json_schema"))
    if structured.json_object:
        found.append(Constraint("json_object"))
    if structured.regex is not None:
        found.append(Constraint("regex", structured.regex))
    if structured.grammar is not None:
        found.append(Constraint("lark", structured.grammar))
    if structured.choice is not None:
        found.append(Constraint("choice", json.dumps(structured.choice)))
    if len(found) != 1:
        raise FieldError(
            "structured_outputs takes one of json, json_object, regex, grammar and choice",
            param="structured_outputs",
        )
    return found[0]


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
    """A schema whose internal references stay valid when it is placed at `to` in another schema."""
    if isinstance(schema, list):
        return [_moved(item, to) for item in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {name: _moved(value, to) for name, value in schema.items()}
    target = moved.get("$ref")
    if isinstance(target, str) and (target == "#" or target.startswith("#/")):
        moved["$ref"] = to + target[1:]
    return moved
