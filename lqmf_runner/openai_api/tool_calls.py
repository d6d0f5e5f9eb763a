"""Reads calls of tools out of an answer's text while it comes.

Three styles: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>` anywhere (Hermes, Qwen); an answer that is
nothing but such objects, with "arguments" or "parameters" (Llama 3, and what a required call is constrained to); and
Mistral's `[TOOL_CALLS]`, before a list of such objects or before each `name[ARGS]{...}`, whether or not the marks,
which are control tokens, are in the text.
"""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Collection
from typing import Any

from .schemas import FunctionCall, ToolCall

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_PYTHON_TAG = "<|python_tag|>"
_BETWEEN = re.compile(r"(?:[ \r\n\t;,]|\[TOOL_CALLS\]|<\|python_tag\|>)*")
_NAMED = re.compile(r"([\w.-]{1,64})(?:\[CALL_ID\]\w*)?(?:\[ARGS\])?\s*(?=\{)")
_MAX_CALLS = 128
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")  # allowed in the name of an offered tool
_ID_LENGTH, _ID_LETTERS = 9, string.ascii_letters + string.digits  # all that Mistral's templates accept


class ToolCallReader:
    """Takes the pieces of one answer and gives back its plain text and its calls, each as soon as it is certain.

    Args:
        names: the tools that were offered. JSON that is not in tags is a call only if it names one of them.
        parallel: whether there may be several calls; else those after the first are dropped.
    """

    def __init__(self, names: Collection[str], *, parallel: bool = True) -> None:
        self._names = names
        self._most = _MAX_CALLS if parallel else 1
        self._held = ""
        self._mode: str | None = (
            None  # "bare": the whole answer may be calls; "text": it begins as plain text
        )
        self._after_call = False
        self.n_calls = 0

    def feed(self, text: str) -> tuple[str, list[ToolCall]]:
        """The plain text and the calls that are certain now."""
        self._held += text
        if self._after_call:  # templates put the next call on a separate line
            self._held = self._held.lstrip("\n")
            self._after_call = not self._held
        if self._mode is None:
            self._mode = _mode(self._held, self._names)
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
            found = self._parse(inside, tagged=True)
            calls += found or []
            plain += mark + inside + end if found is None else ""
            self._held = after if found is None else after.lstrip("\n")
            self._after_call = found is not None and not self._held

    def end(self) -> tuple[str, list[ToolCall]]:
        """The text that was held back."""
        held, self._held = self._held, ""
        calls = self._parse(held.removeprefix(_OPEN), tagged=held.startswith(_OPEN))
        return (held, []) if calls is None else ("", calls)

    def _parse(self, text: str, *, tagged: bool) -> list[ToolCall] | None:
        """The calls in `text`; None if it contains anything else."""
        found: list[Any] = []
        decoder, at = json.JSONDecoder(), _after(_BETWEEN, text, 0)
        try:
            while at < len(text):
                named = _NAMED.match(text, at)
                name = named[1] if named and named[1] in self._names else None
                value, at = decoder.raw_decode(text, named.end() if named and name else at)
                if name:
                    found.append({"name": name, "arguments": value})
                else:
                    found += value if isinstance(value, list) else [value]
                at = _after(_BETWEEN, text, at)
        except (ValueError, RecursionError):
            return None
        calls = [call for value in found if (call := _call(value, None if tagged else self._names))]
        if not calls or len(calls) < len(found):
            return None
        calls = calls[: self._most - self.n_calls]
        self.n_calls += len(calls)
        return calls


def _mode(text: str, names: Collection[str]) -> str | None:
    """Whether an answer with this beginning may be bare calls; None while this is undecided."""
    begun = text.lstrip()
    starts = ["{", "[", _PYTHON_TAG]
    starts += [name + mark for name in names for mark in ("{", "[ARGS]", "[CALL_ID]")]
    if any(begun.startswith(start) for start in starts):
        return "bare"
    return None if any(start.startswith(begun) for start in starts) else "text"


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of `text` may be the beginning of `mark`."""
    return next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:n])), 0)


def _call(value: Any, names: Collection[str] | None) -> ToolCall | None:
    """A call of one of the names, or of any where they do not matter; None for another value."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    if names is not None and value["name"] not in names:
        return None
    if not _NAME.fullmatch(value["name"]):
        return None
    arguments = _arguments(value.get("arguments", value.get("parameters", {})))
    if arguments is None:
        return None
    call_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))
    return ToolCall(call_id, FunctionCall(value["name"], arguments))


def _arguments(value: Any) -> str | None:
    """The JSON text of an object, or of a text that is one; None for anything else, and for what JSON cannot say.

    Clients read the arguments as a JSON object, and send them back in the next request.
    """
    try:
        found = json.loads(value) if isinstance(value, str) else value
        if not isinstance(found, dict):
            return None
        text = json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (ValueError, RecursionError):
        return None
    return text
