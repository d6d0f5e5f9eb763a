"""Reads calls of tools out of an answer's text while it comes.

Two styles: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>` anywhere (Hermes, Qwen), and an answer that is
nothing but such objects, with "arguments" or "parameters" (Llama 3; also what a required call is constrained to).
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from .openai_common import new_id
from .openai_schemas import FunctionCall, ToolCall

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_PYTHON_TAG = "<|python_tag|>"
_MAX_CALLS = 128


class ToolCallReader:
    """Takes the pieces of one answer and gives back its plain text and its calls, each as soon as it is certain."""

    def __init__(self) -> None:
        self._held = ""
        self._mode: str | None = (
            None  # "bare": the whole answer may be calls; "text": it begins as plain text
        )
        self._after_call = False
        self.n_calls = 0

    def feed(self, text: str) -> tuple[str, list[ToolCall]]:
        """The plain text and the calls that are certain now."""
        self._held += text
        if self._after_call:  # templates put the next call on a line of its own
            self._held = self._held.lstrip("\n")
            self._after_call = not self._held
        if self._mode is None:
            self._mode = _mode(self._held)
        if self._mode != "text":
            return "", []
        plain: str = ""
        calls: list[ToolCall] = []
        while True:
            before, mark, rest = self._held.partition(_OPEN)
            if not mark:
                sure = len(before) - _overlap(before, _OPEN)
                self._held = before[sure:]
                return plain + before[:sure], calls
            inside, end, after = rest.partition(_CLOSE)
            plain += before
            if not end:
                self._held = mark + rest
                return plain, calls
            found = self._parse(inside)
            calls += found
            plain += "" if found else mark + inside + end
            self._held = after.lstrip("\n") if found else after
            self._after_call = bool(found) and not self._held

    def end(self) -> tuple[str, list[ToolCall]]:
        """What was held back."""
        held, self._held = self._held, ""
        calls = self._parse(held.removeprefix(_PYTHON_TAG).removeprefix(_OPEN))
        return ("", calls) if calls else (held, [])

    def _parse(self, text: str) -> list[ToolCall]:
        """The calls that `text` is made of; none where anything else is in it."""
        calls: list[ToolCall | None] = []
        decoder, at, text = json.JSONDecoder(), 0, text.strip()
        try:
            while at < len(text):
                value, at = decoder.raw_decode(text, at)
                calls += [_call(item) for item in (value if isinstance(value, list) else [value])]
                while at < len(text) and text[at] in " \r\n\t;,":
                    at += 1
        except (ValueError, RecursionError):
            return []
        if None in calls or self.n_calls + len(calls) > _MAX_CALLS:
            return []
        self.n_calls += len(calls)
        return [call for call in calls if call is not None]


def _mode(text: str) -> str | None:
    """Whether an answer that begins so may be bare calls; None while that is open."""
    begun = text.lstrip()
    if not begun or (_PYTHON_TAG.startswith(begun) and begun != _PYTHON_TAG):
        return None
    if begun[0] in "{[" or begun.startswith(_PYTHON_TAG):
        return "bare"
    return "text"


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of `text` may be the beginning of `mark`."""
    return next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:n])), 0)


def _call(value: Any) -> ToolCall | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, dict):
        arguments = msgspec.json.encode(arguments).decode()
    return (
        ToolCall(new_id("call"), FunctionCall(value["name"], arguments))
        if isinstance(arguments, str)
        else None
    )
