"""Request bodies: JSON into msgspec structs, with errors that name the field.

Types are strict, but a number may be written as JSON allows (64.0 for 64), and null counts as left out. A conversation
may hold what clients store (`history.py`).
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

import msgspec

from ...errors import FieldError
from ..schemas import AnswerBody
from .fields import refuse_unknown
from .history import plain_turns

T = TypeVar("T")
# Backslashes that escape others are taken along, so that the text "\\ud800" counts for no escape.
_ESCAPES = re.compile(rb"\\\\|\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w|(?P<half>\\u[dD][89a-fA-F]\w\w)")
_PATH = re.compile(r"^(?P<what>.*?)(?: - at (?:`key` in )?`\$(?P<path>[^`]*)`)?$", re.DOTALL)
_LONGEST_PARAM = 100
_LIMITS = ("max_tokens", "max_completion_tokens")
NO_LIMIT = "leave it out, or send -1, for as many tokens as fit"


def decode(kind: type[T], body: bytes) -> T:
    """The body as a value of the kind.

    Raises:
        FieldError: it is not JSON, or not of that kind; `param` names the field, e.g. "messages[0].role". Of an
            `AnswerBody` also: it has a field that is not supported and would change the answer.
    """
    try:
        found = _decode_any(body)
        return given_fields(found, kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FieldError(f"the body is not valid JSON: {_in_words(error, body)}", param=None) from None
    except RecursionError:
        raise FieldError("the body is nested too deeply", param=None) from None


def given_fields(found: Any, kind: type[T]) -> T:
    """A body, or an object within one, that has been decoded as plain JSON, as a value of the kind.

    Raises:
        FieldError: as for `decode`; names begin at `found`.
    """
    if isinstance(found, dict) and issubclass(kind, msgspec.Struct):
        found = _given(found)
        if issubclass(kind, AnswerBody):
            refuse_unknown(found, kind.__struct_fields__)
    try:
        return msgspec.convert(found, kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from None


def converted(value: Any, kind: type[T]) -> T:
    """A part of a body that has been decoded as plain JSON, as a type.

    Raises:
        FieldError: as for `decode`; names begin at `value`.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from None


def _given(body: dict[str, Any]) -> dict[str, Any]:
    """The fields that ask for something, with whole numbers and turns in the API's form."""
    given = {name: _whole(value) for name, value in body.items() if value is not None}
    if given.get("logprobs") is False:  # in completions it is a number
        del given["logprobs"]
    if "messages" in given:
        given["messages"] = plain_turns(given["messages"])
    return given


def _whole(value: Any) -> Any:
    """A number without a fraction as an integer, also in lists. What is in objects is not ours to change."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        return [_whole(item) if isinstance(item, (float, list)) else item for item in value]
    return value


def _decode_any(body: bytes) -> Any:
    """Decode a body of any encoding. Most are plain UTF-8, so others are tried only after a failure."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        encoding = json.detect_encoding(body)
        if encoding == "utf-8":
            raise
    return msgspec.json.decode(_as_utf8(body, encoding))


def _as_utf8(body: bytes, encoding: str) -> bytes:
    """The body as UTF-8 without a byte order mark, from UTF-16 and UTF-32 too."""
    try:
        return body.decode(encoding).encode()
    except UnicodeDecodeError as error:
        raise FieldError(f"the body is not text in {encoding.upper()}: {error.reason}", param=None) from None


def _in_words(error: Exception, body: bytes) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"it is not text in UTF-8 ({error.reason})"
    if half := _half_pair(body):
        return f"{half} is half of a surrogate pair, and no character"
    return str(error)


def _half_pair(body: bytes) -> str:
    r"""The first escape such as \ud83d without its other half; empty if the body has none. msgspec names none."""
    halves = (match["half"] for match in _ESCAPES.finditer(body))
    return next((half.decode("ascii", "replace") for half in halves if half), "")


def _explained(text: str) -> FieldError:
    match = _PATH.match(text)
    what = match["what"] if match else text
    path = (match["path"] or "").lstrip(".") if match else ""
    what = what[:1].lower() + what[1:]
    what = what.replace("`", "'")
    missing = re.search(r"missing required field '(.*?)'", what)
    if missing:
        name = f"{path}.{missing[1]}" if path else missing[1]
        return FieldError(f"'{name}' is required", param=name)
    unknown = re.search(r"unknown field '(.*?)'", what)
    if unknown:
        name = (f"{path}.{unknown[1]}" if path else unknown[1])[:_LONGEST_PARAM]
        return FieldError(f"'{name}' is not supported", param=name)
    if not path:
        return FieldError(f"the body is wrong: {what}", param=None)
    return FieldError(f"'{path}' is wrong: {what}", param=path, hint=NO_LIMIT if path in _LIMITS else "")
