"""A conversation as chat templates read it, and the other shapes of it that some of them need.

transformers hands a template the messages without the keys whose value is null. Templates differ in what they do with
an assistant turn without text, and with the arguments of a tool call: some walk through an object, some join texts.
Some want the tool's name beside its result, which few clients send.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from ...types import Message

Turn = dict[str, Any]


def shapes(messages: Sequence[Message]) -> Iterator[list[Turn]]:
    """The conversation as transformers hands it to a template; then, for templates that fail on that, its equals.

    Turns without text have no content, then null, then an empty text. The arguments of calls are as they were given,
    then all objects (a text that is none becomes an empty one), then all JSON text. Then results without a name get
    that of the call they answer. Then all ids have nine letters and digits, as Mistral's templates insist. Then all
    system messages are one at the beginning: agents send more of them later, and many templates take none there. Last,
    user turns that follow each other are one, as some templates want a user and an assistant by turns: Codex sends what
    it knows of the surroundings in a turn of its own.
    """
    seen: list[list[Turn]] = []
    with_one_system = _system_first(messages)
    for ordered in (messages, with_one_system, _users_joined(with_one_system)):
        named = _named(ordered)
        for given, absent, arguments in itertools.product(
            (ordered, named, _with_short_ids(named)), _CONTENTS, _ARGUMENTS
        ):
            turns = [_turn(message, absent, arguments) for message in given]
            if turns not in seen:
                seen.append(turns)
                yield turns


def tool_shapes(tools: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]] | None]:
    """The tools as they were sent, None for none; then, for templates that fail on that, with all they may name."""
    if not tools:
        return [None]
    whole = [_whole(tool) for tool in tools]
    return [list(tools)] if whole == list(tools) else [list(tools), whole]


def _whole(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if not isinstance(function, dict):
        return tool
    missing = {"description": "", "parameters": {"type": "object", "properties": {}}}
    return tool | {
        "function": function | {name: value for name, value in missing.items() if not function.get(name)}
    }


def _named(messages: Sequence[Message]) -> list[Message]:
    functions = {call.get("id"): call.get("function") for message in messages for call in message.tool_calls}
    named = []
    for message in messages:
        function = (
            functions.get(message.tool_call_id) if message.role == "tool" and not message.name else None
        )
        name = function.get("name") if isinstance(function, dict) else None
        named.append(msgspec.structs.replace(message, name=name) if name else message)
    return named


def _system_first(messages: Sequence[Message]) -> Sequence[Message]:
    """The conversation with one system message; as it is where there is none but at the beginning."""
    if not any(message.role == "system" for message in messages[1:]):
        return messages
    texts = [message.content or "" for message in messages if message.role == "system"]
    others = [message for message in messages if message.role != "system"]
    return [Message("system", "\n\n".join(texts)), *others]


def _users_joined(messages: Sequence[Message]) -> Sequence[Message]:
    joined: list[Message] = []
    for message in messages:
        last = joined[-1] if joined else None
        if last and last.role == message.role == "user" and last.name == message.name:
            text = "\n\n".join(filter(None, (last.content, message.content)))
            joined[-1] = msgspec.structs.replace(last, content=text)
        else:
            joined.append(message)
    return joined


def _with_short_ids(messages: Sequence[Message]) -> list[Message]:
    """Calls without an id get one too, and the results without one answer them in their order."""
    changed, made, answered = [], 0, 0
    for message in messages:
        calls = []
        for call in message.tool_calls:
            made += not call.get("id")
            calls.append(call | {"id": _short_id(call.get("id") or f"{made:09}")})
        result = message.tool_call_id
        if message.role == "tool":
            answered += result is None
            result = _short_id(result or f"{answered:09}")
        changed.append(msgspec.structs.replace(message, tool_calls=tuple(calls), tool_call_id=result))
    return changed


def _short_id(given: str) -> str:
    short = len(given) == 9 and given.isascii() and given.isalnum()
    return given if short else hashlib.sha256(given.encode()).hexdigest()[:9]


def _turn(message: Message, absent: Turn, arguments: Callable[[Any], Any]) -> Turn:
    content = absent if message.content is None else {"content": message.content}
    turn: Turn = {"role": message.role} | content
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_calls:
        turn["tool_calls"] = [_call(call, arguments) for call in message.tool_calls]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.reasoning_content is not None:  # gpt-oss reads it under the second name
        thoughts = message.reasoning_content
        turn = {"thinking": thoughts, **turn, "reasoning_content": thoughts}
    return turn


def _call(call: dict[str, Any], arguments: Callable[[Any], Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or "arguments" not in function:
        return call
    return call | {"function": function | {"arguments": arguments(function["arguments"])}}


def _as_given(arguments: Any) -> Any:
    return arguments


def _as_object(arguments: Any) -> Any:
    return arguments if isinstance(arguments, dict) else {}


def _as_text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


_CONTENTS: tuple[Turn, ...] = ({}, {"content": None}, {"content": ""})
_ARGUMENTS: tuple[Callable[[Any], Any], ...] = (_as_given, _as_object, _as_text)
