"""Texts and paths on the command line: taken as they are typed, before Hydra's grammar sees them.

Which keys hold texts is in the schemas (`config/texts.py`). Their values are written as Hydra's quoted strings here.
What a user has put in Hydra's single quotes already keeps its meaning: it is the text between them.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..config.texts import Typed, quoted, stored, unquoted
from ..errors import UserInputError
from .schema import Place, place_of

_OVERRIDE = re.compile(r"(\+{0,2})([\w.]+)=(.*)", re.DOTALL)
_SWEEP = re.compile(r"(choice|range|interval|glob|shuffle|sort)\(.*\)", re.DOTALL)
_PLAIN = re.compile(
    r"(?!(?:true|false|null|nan|inf)$)[a-z_/](?:[\w./-]|:(?=[\w/]))*", re.IGNORECASE | re.ASCII
)
_SPECIAL_IN_DOUBLE_QUOTES = re.compile(r'["$`!\n]|\\(?:\\|\Z)')
_NUMBER = re.compile(r"[+-]?[\d.]+(e[+-]?\d+)?", re.IGNORECASE)
_BRACKETS = {"[": "]", "{": "}", "(": ")"}


def typed_arguments(overrides: Iterable[str], sweep: bool) -> list[str]:
    """The overrides, with texts and paths in Hydra's quotes, files and stdin read.

    Args:
        sweep: with `-m`, where a comma separates values.

    Raises:
        UserInputError: a text can be meant in two ways, or its file cannot be read.
    """
    done: list[str] = []
    overrides = list(overrides)
    mode = next((value for key, _, value in (o.partition("=") for o in overrides) if key == "mode"), None)
    for override in overrides:
        found = _OVERRIDE.fullmatch(override)
        if found is None:
            _check_is_override(override, done)
            done.append(override)
            continue
        plus, key, value = found.groups()
        done.append(f"{plus}{key}={_write(key, value, place_of(key, mode), sweep)}")
    return done


def line_to_type(key: str, text: str) -> str:
    """The argument that gives this text to the key whatever it looks like, quoted for a shell."""
    word = f"{key}={quoted(text)}"
    return shlex.quote(word) if _SPECIAL_IN_DOUBLE_QUOTES.search(word) else f'"{word}"'


def shell_word(word: str) -> str:
    """The word as a shell reads it, in double quotes where that is easier to read."""
    plain = shlex.quote(word) == word or _SPECIAL_IN_DOUBLE_QUOTES.search(word) or "'" not in word
    return shlex.quote(word) if plain else f'"{word}"'


def _check_is_override(word: str, before: Sequence[str]) -> None:
    """Refuse a word without a key, where it is the rest of a text that lacks quotes."""
    last = before[-1].partition("=")[0] if before else ""
    if word[:1] in ("+", "~") or "=" in word or not last or place_of(last).typed is None:
        return
    raise UserInputError(
        f"cannot read '{word}' on the command line",
        hint=f'write key=value; a text with blanks needs quotes: {last}="... {word} ..."',
    )


def _write(key: str, value: str, place: Place, sweep: bool) -> str:
    items = place.items
    typed = items.typed if items is not None and value != "null" else None
    if typed is not None and value[:1] == "[" and not (typed.is_path and value[-1:] != "]"):
        typed = None  # a list, or what was meant as one; but a file may be called `[a].csv`
    # Names with commas are left to Hydra, which refuses them: they may be several models, or a sweep.
    if items is not None and typed is not None and (typed.is_path or "," not in value):
        return _write_single(value, items, sweep)
    numbers = value.split(",") if sweep else [value]
    if place.is_list and all(map(_NUMBER.fullmatch, numbers)):
        return ",".join(f"[{number}]" for number in numbers)  # with -m one run for each
    if place.typed is None:
        return "null" if value == "null" else _write_inner(value, place)
    if not sweep:
        return _write_text(key, value, place.typed)
    if place.typed.resolved:
        if _SWEEP.fullmatch(value):
            return value
        return ",".join(_write_text(key, word.strip(), place.typed) for word in _split(value) or [value])
    words = [unquoted(word.strip()) for word in _split(value) or [value]]
    if len(words) > 1 and None not in words:
        return ",".join(quoted(stored(word, place.typed)) for word in words if word is not None)
    if len(words) > 1 or _SWEEP.fullmatch(value):
        several = ",".join(quoted(word.strip()) for word in _split(value) or [value])
        raise UserInputError(
            f"{key}={_cut(value)} with -m may be one text or several",
            hint=f"one text: {line_to_type(key, value)}; one run for each: {shlex.quote(f'{key}={several}')}",
        )
    return _write_text(key, value, place.typed)


def _write_single(value: str, items: Place, sweep: bool) -> str:
    """A list of one text, or with `-m` one run for each."""
    if sweep and _SWEEP.fullmatch(value):
        return value
    words = (_split(value) if sweep else None) or [value]
    return ",".join(f"[{_write_inner(word, items)}]" for word in words)


def _write_text(key: str, value: str, typed: Typed) -> str:
    if typed.resolved:
        if value == "null":
            return value
        inner = unquoted(value)
        text = stored(value if inner is None else inner, typed)
        return text if _PLAIN.fullmatch(text) else quoted(text)
    inner = unquoted(value, "'")
    if inner is not None:
        return quoted(stored(inner, typed))
    if value == "null" and typed.null_is_ambiguous:
        raise UserInputError(
            f"{key}=null may be the word or no text",
            hint=f"the word: {line_to_type(key, value)}; no text: {key}=",
        )
    return quoted(stored(_read(key, value), typed))


def _write_inner(value: str, place: Place) -> str:
    """A list or a group of keys, with the texts in it quoted. What is neither is left to Hydra."""
    value = value.strip()
    if place.typed is not None:
        inner = unquoted(value)
        return quoted(stored(value if inner is None else inner, place.typed))
    if place.items is not None and value[:1] == "[" and value[-1:] == "]":
        words = _split(value[1:-1])
        if words is not None:
            return f"[{','.join(_write_inner(word, place.items) for word in words)}]"
    if place.has_keys and value[:1] == "{" and value[-1:] == "}":
        words = _split(value[1:-1])
        pairs = [word.partition(":") for word in words or ()]
        if pairs and all(colon for _, colon, _ in pairs):
            return "{" + ",".join(f"{k}:{_write_inner(v, place.child(k.strip()))}" for k, _, v in pairs) + "}"
    return value


def _split(value: str) -> list[str] | None:
    """The parts between commas that are not in quotes or brackets; None if one of these is not closed.

    A quote opens where a word begins. Elsewhere it is an apostrophe.
    """
    if not value.strip():
        return []
    cuts, open_brackets, quote, escaped = [-1], list[str](), "", False
    for at, character in enumerate(value):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = bool(quote)
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and (value[:at].rstrip()[-1:] or ",") in "[{(:,":
            quote = character
        elif character in _BRACKETS:
            open_brackets.append(_BRACKETS[character])
        elif open_brackets and character == open_brackets[-1]:
            open_brackets.pop()
        elif character == "," and not open_brackets:
            cuts.append(at)
    if quote or open_brackets:
        return None
    return [value[a + 1 : b] for a, b in zip(cuts, [*cuts[1:], len(value)], strict=True)]


def _read(key: str, value: str) -> str:
    """The text itself, or the content of the file in `@file` or of the standard input (`-`) without its last line
    end.
    """
    if value != "-" and not (value[:1] == "@" and len(value) > 1):
        return value
    name = value[1:]
    try:
        data = sys.stdin.buffer.read() if value == "-" else Path(name).expanduser().read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise UserInputError(
            f"{key}: cannot read the file {_cut(name)}: {error.strerror}",
            hint=f"a text that begins with @ needs quotes: {line_to_type(key, value)}",
        ) from error
    except UnicodeDecodeError as error:
        where = "the standard input" if value == "-" else f"the file {name}"
        raise UserInputError(f"{key}: {where} is not UTF-8 text") from error
    return re.sub(r"\r?\n\Z", "", text)


def typed_items(value: str) -> list[str]:
    """The texts of a list as it is typed, `[a, 'b c']`, or of a single one."""
    inner = value.strip()
    words = _split(inner[1:-1]) if inner[:1] == "[" and inner[-1:] == "]" else [inner]
    plain = [(unquoted(word.strip()), word.strip()) for word in words or ()]
    return [os.path.expanduser(word if text is None else text) for text, word in plain]


def _cut(value: str) -> str:
    return value if len(value) <= 100 else f"{value[:100]}..."
