"""Plain words for settings: `lqmf chat smollm2_gguf "Why?"` is `mode=chat model=smollm2_gguf mode.message='Why?'`.

Texts go into Hydra's quotes at once, so that nothing in them is read as its grammar.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from ..config import RunConfig
from ..config.prompts import PROMPT_FILES
from ..config.texts import quoted
from ..errors import UserInputError
from ..modes import MODES
from ..results.files import RESULTS
from .arguments import shell_word
from .schema import place_of

ALIASES = {"run": "chat", "list": "models", "ls": "models", "ps": "status"}
"""What other programs call a mode."""
LINES = {
    "serve": "serve [model ...]",
    "benchmark": "benchmark <model ...> [file of prompts]",
    "compare": "compare <model> <model> ... [file of prompts] (or folders of finished runs)",
    "chat": "chat [model] [question]",
    "batch": "batch [model] <file>",
    "pull": "pull <owner/name, owner/name:type or configured model>",
    "quantize": "quantize <model> <bnb|gptq|gguf|bf16> [bits or GGUF type]",
    "stop": "stop [port | all]",
    "history": "history [model]",
    "versions": "versions [model | model@version ...]",
    "console": "console [what is to be done]",
}
"""What may stand behind the mode's name."""
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
_CHOICES = {
    "benchmark": ("model", "prompts"), "compare": ("prompts",), "chat": ("model", "prompts"), "batch": ("model",),
    "serve": ("model",), "quantize": ("model",), "pull": ("model",),
}  # fmt: skip
_OVERRIDE = re.compile(r"(?:\+{1,2}|~)?([A-Za-z_]+)(?:[.@][\w.@/]+)?(?:=.*)?", re.DOTALL)
_TAKE_TEXT = ("chat", "console")
_SAFE = re.compile(r"[A-Za-z_][\w./-]*")
_KEYS = {f.name for f in fields(RunConfig)} | {"experiment", "hydra"}
_GGUF_TYPE = re.compile(r"(I?Q\d|B?F(16|32))\w*", re.IGNORECASE)


@dataclass(frozen=True)
class Words:
    """A command line in words.

    Attributes:
        mode: its mode.
        bare: what is neither an override nor an option, in order.
        overrides: `key=value`, as typed.
    """

    mode: str
    bare: list[str]
    overrides: list[str]


def from_words(
    args: Sequence[str],
    hydra_options: set[str],
    with_value: set[str],
    piped: Callable[[], str] = str,
) -> list[str]:
    """The arguments with words as overrides; those that do not begin with a mode's name stay as they are.

    Args:
        hydra_options, with_value: options that are passed on, without and with a value.
        piped: gives the text on the standard input, which stands before the question of a chat.

    Raises:
        UserInputError: there is no such mode or option, or a word too many.
    """
    if not are_words(args):
        return list(args)
    words, options = _sort(args, hydra_options, with_value)
    settings = (
        _chat(words, piped()) if words.mode == "chat" else _TRANSLATIONS.get(words.mode, _no_words)(words)
    )
    _check_said_once(settings)
    return [f"mode={words.mode}", *settings, *words.overrides, *options]


def _check_said_once(settings: Sequence[str]) -> None:
    """Refuse two words for one setting, of which the last would win."""
    values: dict[str, str] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if values.setdefault(key, value) != value:
            raise UserInputError(
                f"'{values[key]}' and '{_cut(value)}' are both {key}", hint="give one of them"
            )


def mode_first(args: Sequence[str]) -> list[str]:
    """The arguments with the mode's word in front, where settings stand before it: `tracking=none chat m`."""
    for at, word in enumerate(args):
        key = word.partition("=")[0].partition(".")[0]
        if at and word in {*MODES, *ALIASES}:
            return [word, *args[:at], *args[at + 1 :]]
        if "=" not in word or key not in _KEYS - {"mode"}:
            break
    return list(args)


def are_words(args: Sequence[str]) -> bool:
    """Whether the arguments begin with a word, and not with a setting or an option."""
    return bool(args) and args[0][:1] not in "-+~" and "=" not in args[0]


def shown(arguments: Sequence[str]) -> str:
    """The arguments as a line for a shell."""
    return " ".join(("lqmf", *map(shell_word, arguments)))


def mode_of(word: str) -> str:
    """The mode that a word names.

    Raises:
        UserInputError: there is none.
    """
    mode = ALIASES.get(word, word)
    if mode in MODES:
        return mode
    close = difflib.get_close_matches(word, [*MODES, *ALIASES], n=1)
    suggestion = f" (did you mean {close[0]}?)" if close else ""
    raise UserInputError(
        f"unknown mode '{word}'{suggestion}", hint=f"choose one of: {', '.join(sorted(MODES))}"
    )


def _sort(args: Sequence[str], hydra_options: set[str], with_value: set[str]) -> tuple[Words, list[str]]:
    words, options = Words(mode_of(args[0]), [], []), list[str]()
    rest = iter(args[1:])
    for word in rest:
        name, has_value, value = word.partition("=")
        if word == "--":
            words.bare.extend(rest)
        elif name in hydra_options or name in with_value:
            options.append(word)
            if name in with_value and not has_value:
                options.extend([next(rest, "")])
        elif re.match(r"--?[A-Za-z]", word):
            words.overrides.append(_flag(words.mode, name, value if has_value else None, rest))
        elif _is_override(word, words.mode):
            words.overrides.append(word)
        else:
            words.bare.append(word)
    return words, options


def _is_override(word: str, mode: str) -> bool:
    """Whether the word is `key=value`. Where texts are expected, the key has to be one."""
    found = _OVERRIDE.fullmatch(word)
    if found is None or not ("=" in word or word[0] == "~"):
        return False
    return found[1] in _KEYS or mode not in _TAKE_TEXT


def _flag(mode: str, name: str, value: str | None, rest: Any) -> str:
    """`--reference x` as `reference=x`: the setting of that name, of the mode before others."""
    wanted = name.lstrip("-").replace("-", "_")
    options = flags(mode)
    if wanted not in options:
        close = difflib.get_close_matches(wanted, options, n=1)
        suggestion = f" (did you mean --{close[0].replace('_', '-')}?)" if close else ""
        raise UserInputError(
            f"unknown option '{name}'{suggestion}", hint=f"lqmf {mode} --help lists the options"
        )
    key, hint = options[wanted]
    if hint is bool and value is None:
        return f"{key}=true"
    if value is None and (value := next(rest, None)) is None:
        raise UserInputError(f"{name} needs a value", hint=f"lqmf {mode} --help describes it")
    return _setting(key, value)


def flags(mode: str) -> dict[str, tuple[str, Any]]:
    """The options of a mode: name → (key, type). Of two settings of one name the first counts, the mode's own first."""
    found: dict[str, tuple[str, Any]] = {}
    groups = get_type_hints(RunConfig)
    places = [("mode", MODES[mode].schema), ("", RunConfig)]
    places += [(name, groups[name]) for name in _GROUPS.get(mode, ())]
    for prefix, schema in places:
        for name, (key, hint) in _leaves(prefix, schema).items():
            found.setdefault(name, (key, hint))
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


def _setting(key: str, text: str) -> str:
    """`key=value` with the text literally, where the key holds one."""
    place = place_of(key)
    if place.typed is not None:
        return f"{key}={text if _SAFE.fullmatch(text) else quoted(text)}"
    if place.items is not None and text[:1] != "[":
        return f"{key}=[{','.join(word.strip() for word in text.split(','))}]"
    return f"{key}={text}"


def _no_words(words: Words) -> list[str]:
    if words.bare:
        raise UserInputError(
            f"cannot read '{_cut(words.bare[0])}'",
            hint=f"lqmf {words.mode} takes options only; see lqmf {words.mode} --help",
        )
    return []


def _model(name: str) -> str:
    return f"model={name}"


def _models(words: Words) -> list[str]:
    """One model, or several."""
    if len(words.bare) < 2:
        return [_model(name) for name in words.bare]
    return [f"models=[{','.join(_item(name) for name in words.bare)}]"]


def _benchmark(words: Words) -> list[str]:
    """Models, and a file with the prompts."""
    files = [word for word in words.bare if _is_prompt_file(word)]
    models = [word for word in words.bare if word not in files]
    return [*_models(Words(words.mode, models, words.overrides)), *(f"prompts={file}" for file in files)]


def _is_prompt_file(word: str) -> bool:
    return Path(word).suffix.lower() in PROMPT_FILES and Path(word).expanduser().is_file()


def _item(name: str) -> str:
    return name if _SAFE.fullmatch(name) else quoted(name)


def _compare(words: Words) -> list[str]:
    """Models and a file with the prompts, or folders of finished runs."""
    runs = [word for word in words.bare if _is_run(Path(word).expanduser())]
    files = [word for word in words.bare if _is_prompt_file(word)]
    models = [word for word in words.bare if word not in (*runs, *files)]
    lists = (("models", models), ("runs", runs))
    settings = [f"{key}=[{','.join(map(_item, names))}]" for key, names in lists if names]
    return [*settings, *(f"prompts={file}" for file in files)]


def _is_run(folder: Path) -> bool:
    """Whether it is the folder of a run, or of a sweep, whose jobs are in it."""
    return (folder / RESULTS).is_file() or any(folder.glob(f"[0-9]*/{RESULTS}"))


def _chat(words: Words, piped: str) -> list[str]:
    """A model and a question. A first word with blanks in it is a question to the default model."""
    bare = words.bare
    named = bool(bare) and not re.search(r"\s", bare[0])
    text = "\n\n".join(filter(None, (piped, " ".join(bare[1:] if named else bare))))
    return [*([_model(bare[0])] if named else []), *([f"mode.message={quoted(text)}"] if text else [])]


def _batch(words: Words) -> list[str]:
    """A model and a file; a file alone is for the default model."""
    bare = words.bare
    if len(bare) == 1 and Path(bare[0]).is_file() and Path(bare[0]).suffix.lower() != ".gguf":
        bare = ["", *bare]
    if len(bare) > 2:
        raise UserInputError(f"cannot read '{_cut(bare[2])}'", hint="lqmf batch <model> <file>")
    settings = [_model(bare[0])] if bare and bare[0] else []
    return settings + [_setting("mode.input", name) for name in bare[1:]]


def _quantize(words: Words) -> list[str]:
    """A model, a method, and bits or a type: `m gguf Q4_K_M`, `m gptq 4bit`, `m Q8_0`."""
    from ..models.quantize.methods import METHODS

    settings = [_model(name) for name in words.bare[:1]]
    for word in words.bare[1:]:
        if word.lower() in METHODS:
            settings.append(f"mode.method={word.lower()}")
        elif bits := re.fullmatch(r"(\d)(-?bits?)?", word, re.IGNORECASE):
            settings.append(f"mode.bits={bits[1]}")
        elif _GGUF_TYPE.fullmatch(word):
            settings += [
                f"mode.type={word.upper()}",
                *([] if "mode.method=gguf" in settings else ["mode.method=gguf"]),
            ]
        else:
            raise UserInputError(
                f"cannot read '{_cut(word)}'",
                hint="lqmf quantize <model> <bnb|gptq|gguf|bf16> <bits or GGUF type>",
            )
    return settings


def _pull(words: Words) -> list[str]:
    if len(words.bare) > 1:
        raise UserInputError(f"cannot read '{_cut(words.bare[1])}'", hint="lqmf pull <hub id>, one at a time")
    return [_model(name) for name in words.bare]


def _stop(words: Words) -> list[str]:
    settings = []
    for word in words.bare:
        if word != "all" and not word.isdigit():
            raise UserInputError(
                f"cannot read '{_cut(word)}'", hint="lqmf stop, lqmf stop <port> or lqmf stop all"
            )
        settings.append("mode.all=true" if word == "all" else f"server.port={word}")
    return settings


def _history(words: Words) -> list[str]:
    return [_setting("mode.model", word) for word in words.bare]


def _versions(words: Words) -> list[str]:
    """One model or version, or several versions to compare."""
    if len(words.bare) < 2:
        return [_setting("mode.model", word) for word in words.bare]
    return [f"mode.compare=[{','.join(_item(name) for name in words.bare)}]"]


def _console(words: Words) -> list[str]:
    return [f"console.say={quoted(' '.join(words.bare))}"] if words.bare else []


_TRANSLATIONS = {
    "serve": _models,
    "benchmark": _benchmark,
    "compare": _compare,
    "batch": _batch,
    "pull": _pull,
    "quantize": _quantize,
    "stop": _stop,
    "history": _history,
    "versions": _versions,
    "console": _console,
}


def _cut(word: str) -> str:
    return word if len(word) <= 60 else f"{word[:60]}..."
