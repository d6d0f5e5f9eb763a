"""What commands are given: values of settings, and files."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ...config import SamplingConfig
from ...errors import UserInputError

_LARGEST_FILE = 4 << 20  # bytes: more than any context


def changed_setting(sampling: SamplingConfig, name: str, value: str, names: Sequence[str]) -> SamplingConfig:
    """The settings with one of them changed; `default` brings its default back.

    Raises:
        UserInputError: there is no such setting, or it cannot have the value.
    """
    fields = {field.name: field for field in dataclasses.fields(SamplingConfig)}
    if name not in names:
        raise UserInputError(f"there is no setting '{name[:40]}'", hint=f"there are: {', '.join(names)}")
    if value == "default":
        default: dict[str, Any] = {name: getattr(SamplingConfig(), name)}
        return dataclasses.replace(sampling, **default)
    if name == "stop":
        return dataclasses.replace(sampling, stop=_strings(value))
    plain = None if value.lower() in ("none", "null") else value
    kinds = {"int": int, "float": float, "int | None": int | None}
    try:
        change: dict[str, Any] = {name: msgspec.convert(plain, kinds[str(fields[name].type)], strict=False)}
    except msgspec.ValidationError:
        raise UserInputError(f"{name} cannot be '{value[:40]}'", hint="give it a number") from None
    try:
        return dataclasses.replace(sampling, **change)
    except UserInputError as error:
        error.message = error.message.replace("mode.sampling.", "")
        raise


def split_path(argument: str) -> tuple[Path, str]:
    """A path, in quotes if it has blanks, and the text after it."""
    whole = Path(argument).expanduser()
    if whole.is_file():
        return whole, ""
    lexer = shlex.shlex(argument, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        path = lexer.get_token() or argument
    except ValueError:  # a quotation mark is not closed
        return whole, ""
    rest: Any = lexer.instream
    return Path(path).expanduser(), str(rest.read()).strip()


def read_text_file(path: Path) -> str:
    """The text of a file.

    Raises:
        UserInputError: it cannot be read, is too large, or is not text.
    """
    try:
        if not path.is_file():
            raise UserInputError(f"{path} is not a file")
        if path.stat().st_size > _LARGEST_FILE:
            raise UserInputError(f"{path} is larger than {_LARGEST_FILE >> 20} MB", hint="give a part of it")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserInputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserInputError(f"{path} is not text in UTF-8", hint="save it as text, and give that")
    return text.strip("\n")


def _strings(value: str) -> list[str]:
    """Strings that end an answer: in quotes, or separated by blanks; `none` is none."""
    if value.lower() in ("none", "null"):
        return []
    try:
        return shlex.split(value)
    except ValueError:
        return [value]
