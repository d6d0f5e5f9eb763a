"""Turns of a conversation as clients store them, in the form that the API describes.

An assistant turn comes back as some client kept it: OpenAI's with all fields that its SDK dumps, Anthropic's and
Mistral's with parts for thoughts and calls, older ones with a function call. What can be read becomes the text, the
thoughts and the calls of the turn, the rest is left out: a conversation goes on whatever is in it. Other turns are what
a user says now; they are left as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

_TEXT_PARTS = ("text", "output_text", "input_text")
# Parts other than text. Leaving them out would change the question.
_MEDIA = (
    "image",
    "image_url",
    "input_image",
    "audio",
    "input_audio",
    "video",
    "video_url",
    "file",
    "input_file",
)


def plain_turns(messages: Any) -> Any:
    """The turns with those of assistants and functions in the form of `ChatMessage`; anything else as it is."""
    if not isinstance(messages, list):
        return messages
    found, calls_without_id = [], False
    for message in messages:
        turn = _plain_turn(message, calls_without_id)
        if turn is not message and turn["role"] == "assistant":
            calls_without_id |= any("id" not in call for call in turn.get("tool_calls", ()))
        found.append(turn)
    return found


def _plain_turn(message: Any, calls_without_id: bool) -> Any:
    match message:
        case {"role": "assistant"}:
            return _assistant(message)
        case {"role": "tool" | "function" as role}:
            content = "" if message.get("content") is None else message["content"]
            answered = message.get("tool_call_id")
            if answered is None and (calls_without_id or role == "function"):
                answered = ""
            return {**message, "role": "tool", "content": content, "tool_call_id": answered}
    return message


def _assistant(message: Mapping[str, Any]) -> dict[str, Any]:
    content, calls = message.get("content"), _calls(message)
    if isinstance(content, dict):
        content = [content]
    if isinstance(content, list):
        calls += [call for part in content if (call := _used_tool(part))]
        content = _text(content)
    if content is None and isinstance(message.get("refusal"), str):
        content = message["refusal"]
    turn: dict[str, Any] = {"role": "assistant", "content": content}
    if calls:
        turn["tool_calls"] = calls
    if isinstance(message.get("name"), str):
        turn["name"] = message["name"]
    for name in ("reasoning_content", "thinking", "reasoning"):
        if isinstance(message.get(name), str):
            turn.setdefault("reasoning_content", message[name])
    for name in ("prefix", "partial"):  # Mistral's and DeepSeek's name, Moonshot's and Qwen's
        if message.get(name) is not None:
            turn["prefix"] = message[name]
    return turn


def _text(parts: list[Any]) -> Any:
    """The text of an assistant's parts, None if there is none. If some parts are not text at all, the parts
    themselves.
    """
    texts = []
    for part in parts:
        match part:
            case str():
                texts.append(part)
            case {"type": kind} if kind in _MEDIA:
                return parts
            case {"type": "refusal", "refusal": str(text)}:
                texts.append(text)
            case {"type": kind, "text": str(text)} if kind in _TEXT_PARTS:
                texts.append(text)
            case {"text": str(text), **others} if "type" not in others:
                texts.append(text)
    return "".join(texts) if texts else None


def _used_tool(part: Any) -> dict[str, Any] | None:
    """A call as Anthropic's parts have it."""
    match part:
        case {"type": "tool_use", "name": str(name)} if name:
            return _call(part, name, part.get("input"))
    return None


def _calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    given = message.get("tool_calls")
    calls = [_tool_call(call) for call in given] if isinstance(given, list) else []
    if not calls:
        calls.append(_function(message.get("function_call"), {}))
    return [call for call in calls if call]


def _tool_call(call: Any) -> dict[str, Any] | None:
    match call:
        case {"function": dict(function)}:
            return _function(function, call)
        case {"custom": {"name": str(name), "input": given}} if name:
            return _call(call, name, given)
    return _function(call, call)


def _function(function: Any, call: Any) -> dict[str, Any] | None:
    match function:
        case {"name": str(name)} if name:
            return _call(call, name, function.get("arguments"))
    return None


def _call(given: Mapping[str, Any], name: str, arguments: Any) -> dict[str, Any]:
    """The arguments as an object or as text; an id only if there is one."""
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, (str, dict)):
        arguments = msgspec.json.encode(arguments).decode()
    call: dict[str, Any] = {"function": {"name": name, "arguments": arguments}}
    if isinstance(given.get("id"), str) and given["id"]:
        call["id"] = given["id"]
    return call
