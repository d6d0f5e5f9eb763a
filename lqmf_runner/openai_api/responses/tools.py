"""The tools of POST /v1/responses: functions, alone or in namespaces, as chats have them.

A namespace groups functions; Codex sends those of a tool server so. The model sees each function under one name, the
client gets its calls with the two names that it sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import FieldError
from ...types import Constraint
from ..bodies.answer_constraint import chosen_tools
from ..schemas import FunctionName, NamedToolChoice, ToolChoice
from .schemas import ResponseRequest

_FIELDS = ("name", "description", "parameters", "strict")
# Of OpenAI's further fields of a function: what it says by itself, and what asks for nothing.
_LABELS: Mapping[str, Any] = {"allowed_callers": ["direct"], "defer_loading": False}
_MODES = ("none", "auto", "required")
_LONGEST_NAME = 64
_AT = re.compile(r"tools\[(\d+)\](?:\.function\b)?")
_INSTEAD = {
    "web_search": "there is no web here; in Codex set web_search = 'disabled' or 'cached'",
    "image_generation": "no images are made here; in Codex set image_generation = false in [features]",
}
_OTHERS = "only functions can be called; leave this tool out, or switch it off in the client"


@dataclass(frozen=True)
class Function:
    """A function that is offered.

    Attributes:
        place: where it stands in the body, "tools[1].tools[0]".
        name: its name in the namespace.
        namespace: empty for a function that is in none.
        tool: the function as chats have it, under the name that the model sees.
    """

    place: str
    name: str
    namespace: str
    tool: dict[str, Any]

    @property
    def shown(self) -> str:
        """The name that the model sees."""
        return shown_name(self.namespace, self.name)


def shown_name(namespace: object, name: str) -> str:
    """What a function of a namespace is called towards the model, which knows no namespaces.

    The name alone stays where both together are longer than a function's name may be.

    Args:
        namespace: as it was sent; what is no text is none.
    """
    if not (isinstance(namespace, str) and namespace):
        return name
    joined = f"{namespace.removesuffix('__')}__{name}"
    return joined if len(joined) <= _LONGEST_NAME else name


def offered_functions(data: ResponseRequest) -> list[Function]:
    """The functions of a request, those in namespaces too.

    Raises:
        FieldError: a tool is malformed, or nothing that can be called here.
    """
    found: list[Function] = []
    for index, tool in enumerate(data.tools or ()):
        place = f"tools[{index}]"
        if tool.get("type") == "namespace":
            found += _namespace(tool, place)
        elif not finds_nothing(tool):
            found.append(_function(tool, place))
    return found


def finds_nothing(tool: Mapping[str, Any]) -> bool:
    """Whether a tool searches a web that it may not reach, as Codex offers it with every request.

    There is nothing to find here, so the model does without it.
    """
    return tool.get("type") == "web_search" and tool.get("external_web_access") is False


def offer(
    functions: Sequence[Function], data: ResponseRequest
) -> tuple[tuple[dict[str, Any], ...], Constraint | None]:
    """The tools that the model sees, and the constraint that makes the answer a call of one of them.

    Raises:
        FieldError: a tool is malformed, or one is chosen that is not there.
    """
    wanted, choice = _chosen(functions, data.tool_choice)

    def there(match: re.Match[str]) -> str:
        return wanted[int(match[1])].place

    try:
        return chosen_tools([function.tool for function in wanted], choice, data.parallel_tool_calls)
    except FieldError as error:  # here a function's fields are beside its type
        raise FieldError(
            _AT.sub(there, error.message), param=error.param and _AT.sub(there, error.param), hint=error.hint
        ) from None


def _chosen(
    functions: Sequence[Function], given: str | dict[str, Any] | None
) -> tuple[Sequence[Function], ToolChoice | None]:
    """The functions that may be called, and the choice between them."""
    match given:
        case None:
            return functions, None
        case "none" | "auto" | "required" as mode:
            return functions, mode
        case {"type": "function", "name": str(name), **more}:
            return functions, NamedToolChoice(FunctionName(shown_name(more.get("namespace"), name)))
        case {"type": "allowed_tools", "mode": ("auto" | "required") as mode, "tools": list(allowed)}:
            names = {name for index, tool in enumerate(allowed) for name in _allowed(functions, tool, index)}
            return [function for function in functions if function.shown in names], mode
    raise FieldError(
        "this tool_choice is not supported",
        param="tool_choice",
        hint=f'{", ".join(_MODES)}, {{"type": "function", "name": ...}} or allowed_tools with function tools',
    )


def _allowed(functions: Sequence[Function], tool: Any, index: int) -> list[str]:
    """The functions that one of the allowed tools stands for."""
    match tool:
        case {"type": "namespace", "name": wanted}:
            found = [function.shown for function in functions if function.namespace == wanted]
        case {"name": str(wanted)}:
            name = shown_name(tool.get("namespace"), wanted)
            found = [function.shown for function in functions if function.shown == name]
        case _:
            wanted, found = None, []
    if not found:
        raise FieldError(
            f"there is no tool {str(wanted)[:60]!r}",
            param=f"tool_choice.tools[{index}]",
            hint=f"tools: {', '.join(function.shown for function in functions)}",
        )
    return found


def _namespace(given: Mapping[str, Any], place: str) -> list[Function]:
    name, tools = given.get("name"), given.get("tools")
    if not isinstance(name, str) or not name:
        raise FieldError(f"'{place}.name' is required", param=f"{place}.name")
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise FieldError(f"'{place}.tools' is required: a list of functions", param=f"{place}.tools")
    found = [_function(tool, f"{place}.tools[{index}]", name) for index, tool in enumerate(tools)]
    about = given.get("description")
    if (
        found and isinstance(about, str) and about
    ):  # there is no other place for what is said about all of them
        first = found[0].tool["function"]
        first["description"] = "\n\n".join(filter(None, (about, first.get("description"))))
    return found


def _function(given: Mapping[str, Any], place: str, namespace: str = "") -> Function:
    kind = given.get("type")
    if kind != "function":
        raise FieldError(
            f"tools of type {str(kind)[:60]!r} are not supported" if kind else f"'{place}.type' is required",
            param=f"{place}.type",
            hint=_INSTEAD.get(str(kind), _OTHERS),
        )
    name = given.get("name")
    if name is None:
        nested = "a function's name stands beside its type here, not in 'function'"
        raise FieldError(
            f"'{place}.name' is required", param=f"{place}.name", hint=nested if "function" in given else ""
        )
    for field, value in given.items():
        known = field in ("type", "output_schema", *_FIELDS)
        if not (known or value in (None, False, "", [], {}, _LABELS.get(field))):
            raise FieldError(
                f"'{place}.{field[:60]}' is not supported", param=f"{place}.{field[:60]}", hint="leave it out"
            )
    function = {field: given[field] for field in _FIELDS if given.get(field) is not None}
    if isinstance(name, str):  # what else it may be is refused with the other fields
        function["name"] = shown_name(namespace, name)
    return Function(place, str(name), namespace, {"type": "function", "function": function})
