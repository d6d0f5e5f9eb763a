"""The generation request from the body of POST /v1/responses, made of the same parts as the chat's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ...errors import FieldError
from ...types import Constraint, GenerationRequest
from ..bodies.answer_constraint import answer_constraint, chosen_tools
from ..bodies.messages import to_message
from ..bodies.sampling import OPENAI_DEFAULTS, most_tokens, sampling_params
from ..schemas import (
    FunctionName,
    JSONSchemaFormat,
    NamedToolChoice,
    ResponseFormat,
    ToolChoice,
)
from .items import Item, turns
from .schemas import ResponseRequest, TextFormat

LOGPROBS = "message.output_text.logprobs"
# Other values belong to unsupported tools and media, or are in the response anyway.
_INCLUDES = (
    LOGPROBS,
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
)
_TOOL_FIELDS = ("name", "description", "parameters", "strict")
# Of OpenAI's further fields of a function: what it says by itself, and what asks for nothing.
_TOOL_LABELS: Mapping[str, Any] = {"allowed_callers": ["direct"], "defer_loading": False}
_MODES = ("none", "auto", "required")


def generation_request(data: ResponseRequest, items: Sequence[Item], n_kept: int) -> GenerationRequest:
    """What to generate.

    Args:
        items: the conversation, the first `n_kept` of earlier requests.

    Raises:
        FieldError: a field is not supported, or fields do not go together.
    """
    _refuse(data)
    tools, call = _chosen_tools(data)
    constraint = answer_constraint(_with_format(data))
    if call and constraint:
        raise FieldError("a required tool call cannot have a text.format", param="tool_choice")
    messages = turns(items, data.instructions, n_kept)
    if not messages:
        raise FieldError("'input' is required: a text, or a list of items", param="input")
    effort = data.reasoning.effort if data.reasoning else None
    template_options = {} if effort is None else {"reasoning_effort": effort}
    return GenerationRequest(
        messages=tuple(to_message(message, index) for index, message in enumerate(messages)),
        sampling=sampling_params(
            data,
            OPENAI_DEFAULTS,
            max_tokens=most_tokens("max_output_tokens", data.max_output_tokens, OPENAI_DEFAULTS.max_tokens),
            logprobs=(data.top_logprobs or 0) if wants_logprobs(data) else None,
            constraint=call or constraint,
        ),
        tools=tools,
        template_options=template_options | (data.chat_template_kwargs or {}),
    )


def wants_logprobs(data: ResponseRequest) -> bool:
    """Whether the answer's texts have log-probabilities."""
    return bool(data.top_logprobs) or LOGPROBS in (data.include or ())


def _refuse(data: ResponseRequest) -> None:
    if data.n not in (None, 1):
        raise FieldError("a response is one answer", param="n", hint="POST /v1/chat/completions takes n")
    if data.truncation == "auto":
        raise FieldError(
            "truncation=auto is not supported",
            param="truncation",
            hint="a conversation that is too long for the context is refused; leave out its oldest items",
        )
    if data.text and data.text.verbosity not in (None, "medium"):
        raise FieldError(
            "a verbosity is not supported", param="text.verbosity", hint="ask for it in the instructions"
        )
    for index, name in enumerate(data.include or ()):
        if name not in _INCLUDES:
            raise FieldError(
                f"there is no {name[:60]!r} to include",
                param=f"include[{index}]",
                hint=f"known: {', '.join(_INCLUDES)}",
            )


def _with_format(data: ResponseRequest) -> ResponseRequest:
    """The body with the format of its text where chats have it."""
    given = data.text.format if data.text else None
    if given is None or given.type == "text":
        return data
    if data.response_format is not None:
        raise FieldError("text.format and response_format exclude each other", param="text.format")
    if given.type == "json_schema" and given.schema is None:
        raise FieldError("'text.format.schema' is required", param="text.format.schema")
    return msgspec.structs.replace(data, response_format=_response_format(given))


def _response_format(given: TextFormat) -> ResponseFormat:
    if given.type != "json_schema":
        return ResponseFormat(given.type)
    return ResponseFormat(given.type, JSONSchemaFormat(given.name, given.schema))


def _chosen_tools(data: ResponseRequest) -> tuple[tuple[dict[str, Any], ...], Constraint | None]:
    given, choice = _offered(data)
    try:
        return chosen_tools(given, choice, data.parallel_tool_calls)
    except FieldError as error:
        message = error.message.replace("].function.", "].")  # here a function's fields are beside its type
        param = error.param and error.param.replace("].function.", "].")
        raise FieldError(message, param=param, hint=error.hint) from None


def _offered(data: ResponseRequest) -> tuple[list[dict[str, Any]], ToolChoice | None]:
    """The tools as chats have them, those alone that may be called, and the choice between them."""
    tools = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(data.tools or ())]
    match data.tool_choice:
        case None:
            return tools, None
        case "none" | "auto" | "required" as mode:
            return tools, mode
        case {"type": "function", "name": str(name)}:
            return tools, NamedToolChoice(FunctionName(name))
        case {"type": "allowed_tools", "mode": ("auto" | "required") as mode, "tools": list(allowed)}:
            names = [tool.get("name") if isinstance(tool, dict) else None for tool in allowed]
            there = [tool["function"]["name"] for tool in tools]
            for index, wanted in enumerate(names):
                if wanted not in there:
                    raise FieldError(
                        f"there is no tool {str(wanted)[:60]!r}",
                        param=f"tool_choice.tools[{index}]",
                        hint=f"tools: {', '.join(there)}",
                    )
            return [tool for tool in tools if tool["function"]["name"] in names], mode
    raise FieldError(
        "this tool_choice is not supported",
        param="tool_choice",
        hint=f'{", ".join(_MODES)}, {{"type": "function", "name": ...}} or allowed_tools with function tools',
    )


def _tool(tool: Mapping[str, Any], where: str) -> dict[str, Any]:
    kind = tool.get("type")
    if kind != "function":
        raise FieldError(
            f"tools of type {str(kind)[:60]!r} are not supported" if kind else f"'{where}.type' is required",
            param=f"{where}.type",
            hint="only functions can be called; leave this tool out, or switch it off in the client",
        )
    if "name" not in tool:
        nested = "a function's name stands beside its type here, not in 'function'"
        raise FieldError(
            f"'{where}.name' is required", param=f"{where}.name", hint=nested if "function" in tool else ""
        )
    for name, value in tool.items():
        known = name in ("type", "output_schema", *_TOOL_FIELDS)
        if not (known or value in (None, False, "", [], {}, _TOOL_LABELS.get(name))):
            raise FieldError(
                f"'{where}.{name[:60]}' is not supported", param=f"{where}.{name[:60]}", hint="leave it out"
            )
    function = {name: tool[name] for name in _TOOL_FIELDS if tool.get(name) is not None}
    return {"type": "function", "function": function}
