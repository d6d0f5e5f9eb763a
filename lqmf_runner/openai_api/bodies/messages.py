"""A conversation's turns as chat templates take them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from ...errors import FieldError
from ...types import Message
from ..schemas import ChatMessage, ContentPart, StoredCall


def to_message(message: ChatMessage, index: int) -> Message:
    """Turn `index` of a conversation.

    Raises:
        FieldError: it has no text, or what only an assistant's turn has, or it is a tool's answer to no call.
    """
    where = f"messages[{index}]"
    if message.role == "tool" and message.tool_call_id is None:
        raise FieldError(f"'{where}.tool_call_id' is required", param=f"{where}.tool_call_id")
    calls = message.tool_calls or []
    for name in ("tool_calls", "prefix"):
        if getattr(message, name) and message.role != "assistant":
            raise FieldError(f"only an assistant turn has {name}", param=f"{where}.{name}")
    # Clients store turns with only calls in this form.
    silent = message.content is None and message.role == "assistant"
    return Message(
        role="system" if message.role == "developer" else message.role,
        content=None if silent else text_of(message.content, f"{where}.content"),
        name=message.name,
        tool_calls=tuple(_template_call(call) for call in calls),
        tool_call_id=message.tool_call_id or None,
        reasoning_content=message.reasoning_content if message.role == "assistant" else None,
    )


def _template_call(call: StoredCall) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": _template_arguments(call.function.arguments)}
    named = {} if call.id is None else {"id": call.id}
    return {**named, "type": "function", "function": function}


def _template_arguments(given: str | dict[str, Any]) -> dict[str, Any] | str:
    """The arguments as an object, which templates expect. If they are not valid JSON, they stay text."""
    try:
        arguments = msgspec.json.decode(given or "{}") if isinstance(given, str) else given
        msgspec.msgpack.encode(arguments)  # an integer may be too large for the engine
    except (msgspec.DecodeError, OverflowError, RecursionError):
        return given if isinstance(given, str) else json.dumps(given)
    return arguments if isinstance(arguments, dict) else str(given)


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
