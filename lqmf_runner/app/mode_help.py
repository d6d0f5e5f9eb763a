"""What `lqmf <mode> --help` prints: the options of a mode, from the schemas and their docstrings."""

from __future__ import annotations

import inspect
import math
import re
import textwrap
from collections.abc import Iterator
from typing import Any, get_type_hints

from ..config import RunConfig
from ..errors import UserInputError
from ..modes import MODES
from . import PROGRAM
from .options import flags, is_switch
from .words import LINES

_ENTRY = re.compile(r"([a-z]\w*(?:, [a-z]\w*)*): (.*)")


def mode_help(mode: str) -> str:
    """The usage, an example and every option with its key, default and meaning."""
    described = MODES[mode]
    lines = [
        f"{mode}: {described.summary}",
        "",
        f"usage: {PROGRAM} {LINES.get(mode, mode)} [--option value] [key=value ...]",
        f"   e.g. {PROGRAM} {described.example}",
        "",
        "options (the same as key=value):",
    ]
    options = flags(mode)
    for name, (key, hint) in options.items():
        default, meaning = _describe(mode, key)
        shown = (
            ""
            if default in (None, "", [])
            else f" [{str(default).lower() if isinstance(default, bool) else default}]"
        )
        option = name.replace("_", "-")
        switch = f" | --no-{option}" if default is True and is_switch((key, hint)) else ""
        lines.append(f"  --{option}{switch}  {key}{shown}")
        meaning = " ".join(filter(None, (meaning, _allowed(mode, key))))
        lines += textwrap.wrap(meaning, 92, initial_indent=" " * 6, subsequent_indent=" " * 6)
    alone = " (without a value)" if "show" in options else ""
    lines += [
        "",
        f"  --show{alone}  print the equal line of settings and stop",
        "  --      all that follows is text",
    ]
    return "\n".join(lines)


def _describe(mode: str, key: str) -> tuple[Any, str]:
    """The default of a setting, None if there is none, and its meaning, empty if it is not described."""
    holder, name = _holder(mode, key)
    schema = holder if isinstance(holder, type) else type(holder)
    return getattr(holder, name, None), dict(attributes(schema)).get(name, "")


def _allowed(mode: str, key: str) -> str:
    """What a setting may be, in the words of its schema when that refuses a value; empty if it refuses nothing."""
    holder, name = _holder(mode, key)
    schema: Any = holder if isinstance(holder, type) else type(holder)
    for refused in (-math.inf, "\0"):
        try:
            schema(**{name: refused})
        except UserInputError as error:
            if error.hint.startswith(("it must", "choose ")):
                return f"({error.hint.removeprefix('it must be ')})"
        except (TypeError, ValueError, AttributeError):  # the value is of another type than the setting
            continue
    return ""


def _holder(mode: str, key: str) -> tuple[Any, str]:
    """The schema that has a setting, or its defaults in a mode, and the setting's own name."""
    *groups, name = key.split(".")
    holder: Any = RunConfig
    for group in groups:
        if group == "mode":
            holder = MODES[mode].schema()
        elif isinstance(holder, type):
            holder = get_type_hints(holder)[group]
        else:
            holder = getattr(holder, group)
    return holder, name


def attributes(schema: type) -> Iterator[tuple[str, str]]:
    """The names and meanings in the "Attributes:" of a docstring."""
    _, _, section = inspect.cleandoc(schema.__doc__ or "").partition("Attributes:\n")
    names, meaning = list[str](), list[str]()
    for line in section.splitlines():
        if entry := re.fullmatch(r"    " + _ENTRY.pattern, line):
            yield from ((name, " ".join(meaning)) for name in names)
            names, meaning = entry[1].split(", "), [entry[2]]
        elif line.startswith("     "):
            meaning.append(line.strip())
    yield from ((name, " ".join(meaning)) for name in names)
