"""Turns what Hydra and OmegaConf raise for a mistake in the configuration into one clear line with the valid names."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable

from hydra.errors import (
    HydraException,
    MissingConfigException,
    OverrideParseException,
    SearchPathException,
)
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)
from yaml import MarkedYAMLError, YAMLError

from ..config import RunConfig
from ..errors import LqmfError, UserInputError
from .arguments import line_to_type
from .schema import place_of

SCHEMA_SUFFIX = "_schema"  # schemas lie in the groups beside the choices and are none themselves
# What OmegaConf says → what `value`, given for `key`, must be.
_TYPE_WORDS = {
    "could not be converted to Integer": "a whole number",
    "could not be converted to Float": "a number",
    "is not a valid bool|could not be converted to Boolean": "true or false",
    "is not a ListConfig, list or tuple": "a list: '{key}=[{value}]'",
    "Cannot convert '(List|Dict)Config' to string": "a text; put quotes around it",
    "is not a 'Prompt'|Cannot assign .* to .*": "a group of keys",
    "field .* is not Optional": "given; null is not allowed",
}
_ROOT_KEYS = (*(f.name for f in dataclasses.fields(RunConfig)), "experiment")


def translate(error: Exception) -> LqmfError | None:
    """The user's mistake behind `error`, or None when it is not about the configuration."""
    if isinstance(error, LqmfError):
        return error
    for cause in _causes(error):
        if isinstance(cause, LqmfError):
            return cause
    if isinstance(error, ValueError) and "Config group override must be" in str(error):
        return UserInputError("a config group cannot be null", hint="see --help for what can be chosen")
    if isinstance(error, YAMLError):
        return _malformed(error)
    if not isinstance(error, (HydraException, OmegaConfBaseException)):
        return None
    return _translate(error)


def unknown(what: str, name: str, valid: Iterable[str]) -> UserInputError:
    """`unknown mode 'bench' (did you mean benchmark?)`, with all valid names in the hint."""
    names = sorted(valid)
    return UserInputError(
        f"unknown {what} '{name}'{_suggest(name, names)}", hint=f"choose one of: {', '.join(names)}"
    )


def missing(key: str) -> UserInputError:
    """`model.name is not given`."""
    return UserInputError(f"{key} is not given", hint=f"add {key}=<value>")


def unknown_key(key: str, valid: Iterable[str], source: str = "") -> UserInputError:
    """`unknown key 'backend.nctx' (did you mean n_ctx?)`, with the keys there are in the hint."""
    parent, _, name = key.rpartition(".")
    names = sorted(valid)
    where = f"valid keys of {parent}" if parent else "valid keys"
    hint = f"{where}: {', '.join(names)}"
    if key == "model.backend":
        hint = f"a model's YAML chooses its format in its defaults list: {_override_of('backend')}"
    return UserInputError(f"unknown key '{key}'{_suggest(name, names)}{source}", hint=hint)


def _translate(error: Exception) -> UserInputError:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, MissingConfigException):
            return _missing_config(cause)
        if isinstance(cause, OverrideParseException):
            return _unreadable(cause)
    for cause in reversed(causes):
        if isinstance(cause, OmegaConfBaseException):
            return _omegaconf(cause, causes)
    text = str(error)
    if found := re.search(
        r"You must specify '(\S+?)', e\.?g,? \S+\nAvailable options:\n((?:\t.*\n?)+)", text
    ):
        names = _choices(found[2].split())
        return UserInputError(f"no {found[1]} given", hint=f"add {found[1]}=, one of: {', '.join(names)}")
    if found := re.search(r"In '(\S+)': Could not override '(\w+)@\S+?'", text):
        return UserInputError(
            f"'override /{found[2]}' in {found[1]}.yaml lacks its place in the configuration",
            hint=f"write: {_override_of(found[2])}",
        )
    if found := re.search(
        r"Override (\S+) looks like a config group override|Could not override '(\S+?)'", text
    ):
        return unknown_key((found[1] or found[2]).partition("=")[0].partition("@")[0], _ROOT_KEYS)
    if found := re.search(r"Ambiguous value for argument '([^']+)'", text):
        key, _, values = found[1].partition("=")
        other = f"models=[{values}] for all in one run" if key == "model" else f"{key}=[{values}] for a list"
        return UserInputError(
            f"{found[1]} has several values", hint=f"add -m for one run each, or write {other}"
        )
    if isinstance(error, SearchPathException):
        return UserInputError(_one_line(text), hint="--config-dir takes a folder of your own YAML files")
    return UserInputError(_one_line(text) or type(error).__name__, hint="python -m lqmf_runner --help")


def _override_of(group: str) -> str:
    """The line of a defaults list by which a YAML in one group chooses from another."""
    return f"- override /{group}@_global_.{group}: <name>"


def _unreadable(error: OverrideParseException) -> UserInputError:
    """The override, the character in it that Hydra's grammar does not expect, and how to write it."""
    override = error.override if len(error.override) <= 100 else f"{error.override[:100]}..."
    key, is_given, value = error.override.partition("=")
    found = re.search(
        r"(?:token recognition error at|no viable alternative at input|input): '(.+)'|input '(.+?)'",
        str(error),
    )
    where = f" (at {found[1] or found[2]})" if found and is_given else ""
    hint = "write key=value"
    if is_given and not re.search(r"\W", key.replace(".", "")):
        hint += f", with quotes around what holds blanks, commas or brackets: {_example(key, value)}"
    return UserInputError(f"cannot read '{override}' on the command line{where}", hint=hint)


def _example(key: str, value: str) -> str:
    """How to write a value for this key."""
    items = place_of(key).items
    if items is None:
        return line_to_type(key, value)
    return f"'{key}=[{{id: a, prompt: \"b, c\"}}]'" if items.has_keys else f"'{key}=[a,\"b, c\"]'"


def _malformed(error: YAMLError) -> UserInputError:
    """The file, the place in it, and what is wrong there."""
    place, what = "a YAML file", _one_line(str(error))
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark or error.context_mark):
        place, what = f"{mark.name}, line {mark.line + 1}", error.problem or error.context or what
    return UserInputError(f"{place}: {what}", hint="put quotes around text that holds : ? # { or [")


def _missing_config(error: MissingConfigException) -> UserInputError:
    missing = error.missing_cfg_file or ""
    missing = missing if isinstance(missing, str) else ", ".join(missing)
    group, _, name = missing.rpartition("/")
    if not group:
        return UserInputError(
            f"there is no configuration '{missing}'", hint="see --help for what can be chosen"
        )
    hint_names = _choices(error.options or ())
    result = unknown(group, name, hint_names)
    if group == "model":
        result.hint += "; for one in quantized-models/ without a YAML use model=local model.name=<name>"
    if group == "prompts":
        result.hint += "; or give a file: prompts=questions.csv"
    return result


def _omegaconf(error: OmegaConfBaseException, causes: list[BaseException]) -> UserInputError:
    key = str(error.full_key or error.key or "")
    source = _source(causes)
    override = next((m[1] for c in causes if (m := re.match(r"Error merging override (\S.*)", str(c)))), "")
    if isinstance(error, MissingMandatoryValue):
        return missing(_missing_key(error))
    if isinstance(error, (ConfigAttributeError, ConfigKeyError)):
        return unknown_key(key, _fields(error.object_type) or _ROOT_KEYS, source)
    reason = _one_line(re.split(r"\s+full_key:", str(error.msg or error))[0])
    if isinstance(error, InterpolationResolutionError):
        hint = f"check the ${{...}} in it; where these characters are meant: '{key}=\\${{...}}'"
        return UserInputError(f"{key} cannot be resolved: {reason}{source}", hint=hint)
    given = override or key
    if isinstance(error, ValidationError):
        for pattern, words in _TYPE_WORDS.items():
            if re.search(pattern, reason):
                value = override.removeprefix(f"{key}=") if override.startswith(f"{key}=") else "..."
                wanted = words.format(key=key, value=value or "...")
                return UserInputError(f"{given} is not valid{source}", hint=f"{key} must be {wanted}")
    return UserInputError(f"{given} is not valid: {reason}{source}")


def _suggest(name: str, valid: Iterable[str]) -> str:
    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower())

    by_plain = {plain(v): v for v in valid}
    close = [p for p in by_plain if sorted(p) == sorted(plain(name))]  # letters swapped
    close = close or difflib.get_close_matches(plain(name), by_plain, n=1, cutoff=0.6)
    return f" (did you mean {by_plain[close[0]]}?)" if close else ""


def _choices(options: Iterable[str]) -> list[str]:
    return sorted(o for o in options if not o.endswith(SCHEMA_SUFFIX))


def _fields(object_type: object) -> tuple[str, ...]:
    if isinstance(object_type, type) and dataclasses.is_dataclass(object_type):
        return tuple(f.name for f in dataclasses.fields(object_type))
    return ()


def _source(causes: list[BaseException]) -> str:
    """Which YAML file the mistake is in, when it is not on the command line."""
    for cause in causes:
        if found := re.match(r"In '([^']+)'", str(cause)):
            return f" in {found[1]}.yaml"
    return ""


def _missing_key(error: OmegaConfBaseException) -> str:
    found = re.search(r"Missing mandatory value: (\S+)", str(error))
    return found[1] if found else str(error.full_key or error.key)


def _causes(error: BaseException) -> Iterable[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def _one_line(text: str) -> str:
    return " ".join(text.split())
