"""Request bodies: strict JSON into msgspec structs, with errors that name the field."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from ..errors import FieldError

T = TypeVar("T")
_PATH = re.compile(r"^(?P<what>.*?)(?: - at (?:`key` in )?`\$(?P<path>[^`]*)`)?$", re.DOTALL)


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The body as the decoder's type.

    Raises:
        FieldError: it is not JSON, or not of that type; `param` names the field, e.g. "messages[0].role".
    """
    try:
        return decoder.decode(body)
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
    if not path:
        return FieldError(f"the body is wrong: {what}", param=None)
    return FieldError(f"'{path}' is wrong: {what}", param=path)
