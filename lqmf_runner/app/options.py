"""The options of a mode: `--reference x` is `reference=x`."""

from __future__ import annotations

import difflib
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any, get_type_hints

from ..config import RunConfig
from ..config.texts import quoted
from ..errors import UserInputError
from ..modes import MODES
from .schema import place_of

_GROUPS = {
    "serve": ("server", "backend"),
    "status": ("server",),
    "stop": ("server",),
    "keys": ("server",),
    "compare": ("verdict", "fidelity", "backend"),
    "benchmark": ("fidelity", "backend"),
    "console": ("console", "server"),
    "pull": ("model",),
    "chat": ("backend",),
    "batch": ("backend",),
}
_ONLY_IN = {
    "models": ("serve", "benchmark", "compare"),
    "runs": ("compare",),
    "reference": ("benchmark", "compare"),
    "server.url": ("chat",),
}  # settings of every run that change something in these modes only
_CHOICES = {
    "benchmark": ("model", "prompts"), "compare": ("prompts",), "chat": ("model", "prompts"), "batch": ("model",),
    "serve": ("model",), "quantize": ("model",), "pull": ("model",),
}  # fmt: skip
SAFE = re.compile(r"[A-Za-z_][\w./-]*")


def setting_of(mode: str, name: str, value: str | None, rest: deque[str]) -> str:
    """`--reference x` as `reference=x`: the setting of that name, of the mode before others.

    Args:
        value: what follows a `=` in the same word; None if there is none.
        rest: the words after the option. Its value is taken from there.

    Raises:
        UserInputError: the mode has no such option, or its value is missing.
    """
    wanted = name.lstrip("-").replace("-", "_")
    options = flags(mode)
    if value is None and wanted not in options and is_switch(options.get(wanted.removeprefix("no_"))):
        return f"{options[wanted.removeprefix('no_')][0]}=false"
    if wanted not in options:
        close = difflib.get_close_matches(wanted, options, n=1)
        suggestion = f" (did you mean --{close[0].replace('_', '-')}?)" if close else ""
        raise UserInputError(
            f"unknown option '{name}'{suggestion}", hint=f"lqmf {mode} --help lists the options"
        )
    key, _ = options[wanted]
    if value is None and is_switch(options[wanted]):
        return f"{key}={rest.popleft() if rest and rest[0] in ('true', 'false') else 'true'}"
    if value is None and not rest:
        raise UserInputError(f"{name} needs a value", hint=f"lqmf {mode} --help describes it")
    text = rest.popleft() if value is None else value
    typed = place_of(key).typed
    if typed is not None and not typed.resolved and (text == "-" or text[:1] == "@"):
        return f"{key}={text}"  # the standard input, or a file, as in a setting
    return override_of(key, text)


def is_switch(option: tuple[str, Any] | None) -> bool:
    """Whether an option is on or off, and needs no value."""
    return option is not None and option[1] is bool


def show_at(args: Sequence[str]) -> int | None:
    """Where `--show` asks for the line in settings; None if it does not.

    In a mode with a setting of that name, a `--show` with a value is that setting.
    """
    mode = args[0]
    for at, word in enumerate(args):
        if word == "--":
            break
        value = args[at + 1 : at + 2]
        if word == "--show" and not (
            mode in MODES and "show" in flags(mode) and value and value[0][:1] != "-"
        ):
            return at
    return None


def flags(mode: str) -> dict[str, tuple[str, Any]]:
    """The options of a mode: name → (key, type). Of two settings of one name the first counts, the mode's own first."""
    found: dict[str, tuple[str, Any]] = {}
    groups = get_type_hints(RunConfig)
    places = [("mode", MODES[mode].schema), ("", RunConfig)]
    places += [(name, groups[name]) for name in _GROUPS.get(mode, ())]
    for prefix, schema in places:
        for name, (key, hint) in _leaves(prefix, schema).items():
            if mode in _ONLY_IN.get(key, (mode,)):
                found.setdefault(name, (key, hint))
    if mode in _ONLY_IN["server.url"]:
        found["url"] = ("server.url", str)
    found |= {group: (group, str) for group in _CHOICES.get(mode, ()) if group not in found}
    found.pop("name", None)
    return found


def _leaves(prefix: str, schema: Any) -> dict[str, tuple[str, Any]]:
    """The settings of a group, and after them those of the groups in it."""
    own, inner = dict[str, tuple[str, Any]](), dict[str, tuple[str, Any]]()
    for name, hint in get_type_hints(schema).items():
        key = f"{prefix}.{name}" if prefix else name
        if not is_dataclass(hint):
            own[name] = key, hint
        elif prefix:
            inner |= _leaves(key, hint)
    return own | {name: setting for name, setting in inner.items() if name not in own}


def override_of(key: str, text: str) -> str:
    """`key=value` with the text literally, where the key holds one."""
    place = place_of(key)
    if place.typed is not None:
        return f"{key}={text if SAFE.fullmatch(text) else quoted(text)}"
    if place.items is not None and text[:1] != "[":
        return f"{key}=[{','.join(word.strip() for word in text.split(','))}]"
    return f"{key}={text}"
