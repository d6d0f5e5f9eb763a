"""Marks the settings that are texts and paths, which are taken literally, and carries them through Hydra and OmegaConf.

A field's type says it: `Text`, `OptionalText`, `Name` or `FilePath` in place of `str`. OmegaConf and mypy see a `str`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Typed:
    """How a setting is read from the command line and from YAML. Numbers, true and null in it are characters.

    Attributes:
        resolved: `${...}` in it is resolved, and `null` is no value. Otherwise both are characters like others.
        null_is_ambiguous: `null` is refused on the command line, because it could mean no value.
        is_path: `~` at its beginning is the user's home.
    """

    resolved: bool = False
    null_is_ambiguous: bool = False
    is_path: bool = False


Text = Annotated[str, Typed()]
"""What a model is sent: a message, a prompt, a stop string. Nothing in it is resolved."""
OptionalText = Annotated[str, Typed(null_is_ambiguous=True)]
"""A text that people also switch off with `null`: a system prompt, a reference answer."""
Name = Annotated[str, Typed(resolved=True)]
"""A name or an address."""
FilePath = Annotated[str, Typed(resolved=True, is_path=True)]
"""A file or a folder."""

_INTERPOLATION = re.compile(r"(\\*)\$\{")
_BACKSLASHES_BEFORE_QUOTE = {"'": re.compile(r"(\\*)('|\Z)"), '"': re.compile(r'(\\*)("|\Z)')}
_QUESTION_MARKS = '${oc.select:_,"???"}'


def stored(text: str, typed: Typed) -> str:
    """The text as an OmegaConf value that resolves to it."""
    if typed.is_path:
        text = os.path.expanduser(text)
    if typed.resolved:
        return text
    if text == "???":  # to OmegaConf a missing value, for which it has no escape
        return _QUESTION_MARKS
    return _INTERPOLATION.sub(r"\1\1\\${", text)


def quoted(value: str) -> str:
    """The value in single quotes, as Hydra's grammar reads it: backslashes are doubled before a quote only."""
    return "'" + _BACKSLASHES_BEFORE_QUOTE["'"].sub(_escape, value) + "'"


def unquoted(word: str, quotes: str = "'\"") -> str | None:
    """What a word in Hydra's quotes holds; None if it is not one quoted string from its first to its last character."""
    quote = word[:1]
    if len(word) < 2 or quote not in quotes or word[-1] != quote:
        return None
    inner = word[1:-1]
    found = list(_BACKSLASHES_BEFORE_QUOTE[quote].finditer(inner))
    if any(len(m[1]) % 2 != bool(m[2]) for m in found):
        return None  # a quote within is not escaped, or the last one is
    return _BACKSLASHES_BEFORE_QUOTE[quote].sub(lambda m: "\\" * (len(m[1]) // 2) + m[2], inner)


def _escape(found: re.Match[str]) -> str:
    backslashes, quote = found.groups()
    return backslashes * 2 + ("\\'" if quote else "")
