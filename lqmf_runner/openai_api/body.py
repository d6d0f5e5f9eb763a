"""Request bodies: JSON into msgspec structs, with errors that name the field.

Types are strict, but a number may be written as JSON allows (64.0 for 64), null is as left out, and a conversation may
hold what clients store (`history.py`).
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from ..errors import FieldError
from .fields import refuse_unknown
from .history import plain_turns
from .schemas import AnswerBody

T = TypeVar("T")
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
        found = msgspec.json.decode(body)
        if isinstance(found, dict) and issubclass(kind, msgspec.Struct):
            found = _given(found)
            if issubclass(kind, AnswerBody):
                refuse_unknown(found, kind.__struct_fields__)
        return msgspec.convert(found, kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FieldError(f"the body is not valid JSON: {error}", param=None) from None
    except RecursionError:
        raise FieldError("the body is nested too deeply", param=None) from None


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
    """The fields that ask for something, with whole numbers and turns as the API has them."""
    given = {name: _whole(value) for name, value in body.items() if value is not None}
    if given.get("logprobs") is False:  # of completions it is a number
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
