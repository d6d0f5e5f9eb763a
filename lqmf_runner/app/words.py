"""Plain words for settings: `lqmf chat smollm2_gguf "Why?"` is `mode=chat model=smollm2_gguf mode.message='Why?'`.

Texts go into Hydra's quotes at once, so that nothing in them is read as its grammar.
"""

from __future__ import annotations

import difflib
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from ..config import RunConfig
from ..config.prompts import PROMPT_FILES
from ..config.texts import quoted, unquoted
from ..errors import UserInputError
from ..modes import MODES
from ..results.files import RESULTS
from .arguments import shell_word
from .options import SAFE, override_of, setting_of

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
_OVERRIDE = re.compile(r"(?:\+{1,2}|~)?([A-Za-z_]+)(?:[.@][\w.@/]+)?(?:=.*)?", re.DOTALL)
_MODEL_KEYS = ("model", "model.name", "model.path", "model.hub_id")
_MESSAGE = "mode.message="
_TAKE_TEXT = ("chat", "console")
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
        _chat(words, piped) if words.mode == "chat" else _TRANSLATIONS.get(words.mode, _no_words)(words)
    )
    _check_said_once(settings, words.overrides)
    return [f"mode={words.mode}", *settings, *words.overrides, *options]


def _check_said_once(settings: Sequence[str], overrides: Sequence[str]) -> None:
    """Refuse a word for a setting that another word, an option or `key=value` sets too: the last would win."""
    values: dict[str, str] = {}
    given = {setting.partition("=")[0] for setting in settings}
    for setting in (*settings, *(override for override in overrides if override.partition("=")[0] in given)):
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
    rest = deque(args[1:])
    while rest:
        word = rest.popleft()
        name, has_value, value = word.partition("=")
        if word == "--":
            words.bare.extend(rest)
            rest.clear()
        elif name in hydra_options or name in with_value:
            options.append(word)
            if name in with_value and not has_value:
                options.append(rest.popleft() if rest else "")
        elif re.match(r"--?[A-Za-z]", word):
            words.overrides.append(setting_of(words.mode, name, value if has_value else None, rest))
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
    return Path(word).suffix.lower() in PROMPT_FILES and not Path(word).expanduser().is_dir()


def _item(name: str) -> str:
    return name if SAFE.fullmatch(name) else quoted(name)


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


def _chat(words: Words, piped: Callable[[], str]) -> list[str]:
    """A model and a question. A first word with blanks in it, or beside `model=`, begins the question.

    A path with blanks in it is a model if it is there.
    """
    bare = words.bare
    named = bool(bare) and not _has_model(words) and (not re.search(r"\s", bare[0]) or _is_there(bare[0]))
    question = " ".join(bare[1:] if named else bare)
    given = next((word.removeprefix(_MESSAGE) for word in words.overrides if word.startswith(_MESSAGE)), "")
    read_later = given in ("-", "null") or given[:1] == "@"
    if given and not question and not read_later:
        inner = unquoted(given, "'")
        question = given if inner is None else inner
        words.overrides[:] = [word for word in words.overrides if not word.startswith(_MESSAGE)]
        given = ""
    text = question if given else "\n\n".join(filter(None, (piped(), question)))
    return [*([_model(bare[0])] if named else []), *([f"mode.message={quoted(text)}"] if text else [])]


def _batch(words: Words) -> list[str]:
    """A model and a file; a file alone is for the default model."""
    bare = words.bare
    if bare and (_has_model(words) or (len(bare) == 1 and _is_file_to_answer(bare[0]))):
        bare = ["", *bare]
    if len(bare) > 2:
        raise UserInputError(f"cannot read '{_cut(bare[2])}'", hint="lqmf batch <model> <file>")
    settings = [_model(bare[0])] if bare and bare[0] else []
    return settings + [override_of("mode.input", name) for name in bare[1:]]


def _is_there(word: str) -> bool:
    try:
        return Path(word).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # a text that is too long for a path, say
        return False


def _is_file_to_answer(word: str) -> bool:
    """Whether a word is a file and no model. One with the name of a table is, if it is not there too."""
    return _is_prompt_file(word) or (Path(word).is_file() and Path(word).suffix.lower() != ".gguf")


def _has_model(words: Words) -> bool:
    """Whether a setting or an option chooses the model, so that no word does."""
    return any(override.partition("=")[0] in _MODEL_KEYS for override in words.overrides)


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
    return [override_of("mode.model", word) for word in words.bare]


def _versions(words: Words) -> list[str]:
    """One model or version, or several versions to compare."""
    if len(words.bare) < 2:
        return [override_of("mode.model", word) for word in words.bare]
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
