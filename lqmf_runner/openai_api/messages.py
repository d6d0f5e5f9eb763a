"""A conversation's turns as chat templates take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..errors import FieldError
from ..types import Message
from .schemas import ChatMessage, ContentPart, ToolCall


def to_message(message: ChatMessage, index: int) -> Message:
    """Turn `index` of a conversation.

    Raises:
        FieldError: it has no text, calls that are not an assistant's, or a tool's answer to no call.
    """
    where = f"messages[{index}]"
    if message.role == "tool" and message.tool_call_id is None:
        raise FieldError(f"'{where}.tool_call_id' is required", param=f"{where}.tool_call_id")
    calls = message.tool_calls or []
    if calls and message.role != "assistant":
        raise FieldError("only an assistant turn has tool_calls", param=f"{where}.tool_calls")
    silent = message.content is None and message.role == "assistant"  # clients store turns of calls alone so
    return Message(
        role="system" if message.role == "developer" else message.role,
        content=None if silent else text_of(message.content, f"{where}.content"),
        name=message.name,
        tool_calls=tuple(_template_call(call, f"{where}.tool_calls") for call in calls),
        tool_call_id=message.tool_call_id,
        reasoning_content=_thoughts(message) if message.role == "assistant" else None,
    )


def _thoughts(message: ChatMessage) -> str | None:
    """The first of the names that transformers looks for; what is no text there is not for a template."""
    names = (message.reasoning_content, message.thinking, message.reasoning)
    return next((thoughts for thoughts in names if isinstance(thoughts, str)), None)


def _template_call(call: ToolCall, where: str) -> dict[str, Any]:
    """Templates want the arguments as an object."""
    try:
        arguments = msgspec.json.decode(call.function.arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise FieldError(f"the arguments of '{call.function.name}' are not a JSON object", param=where)
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.function.name, "arguments": arguments},
    }


def text_of(content: str | Sequence[ContentPart] | None, param: str) -> str:
    """The text of a message's content, a string or a list of parts.

    Raises:
        FieldError: there is none, or a part is something else than text.
    """
    if isinstance(content, str):
        return content
    if content is None:
        raise FieldError(f"'{param}' is required", param=param)
    for number, part in enumerate(content):
        if part.type != "text" or part.text is None:
            raise FieldError(
                f"'{param}[{number}]' is not a text part",
                param=param,
                hint='parts are {"type": "text", "text": "..."}; images and sounds are not supported',
            )
    return "".join(part.text or "" for part in content)
