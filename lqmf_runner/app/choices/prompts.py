"""A file as a prompt set: `prompts=questions.csv` wherever `prompts=<name>` may stand."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore

from ...config.prompts import PROMPT_FILES
from ...config.texts import Typed, stored
from ...errors import UserInputError
from ..config_errors import SCHEMA_SUFFIX
from ..yaml_texts import load_texts

GROUP = "prompts"
MOST = 5000
OWN_ENTRIES = "custom"
KINDS = "text with one prompt a line, CSV or XLSX with a header, JSONL, or YAML as in conf/prompts/"
_YAML = frozenset({".yaml", ".yml"})
_TEXT = Typed()


def choose_prompts(
    overrides: Sequence[str], configured: Collection[str], *, sweep: bool
) -> tuple[list[str], dict[str, str]]:
    """The overrides with the files in `prompts=` as choices that Hydra knows, and for each choice what was typed.

    Args:
        configured: the names that have a YAML file; they come first.
        sweep: with `-m`, where a comma separates values.

    Raises:
        UserInputError: a file is not there, or is no prompt set.
    """
    words: list[str] = []
    typed: dict[str, str] = {}
    for override in overrides:
        key, _, value = override.partition("=")
        names = [name.strip() for name in value.split(",")] if sweep else [value]
        if key != GROUP or not any(is_file(name, configured) for name in names):
            words.append(override)
            continue
        choices = [_register(name) if is_file(name, configured) else name for name in names]
        typed |= {f"{GROUP}={choice}": f"{GROUP}={name}" for choice, name in zip(choices, names, strict=True)}
        words.append(f"{GROUP}={','.join(choices)}")
    return words, typed


def name_of_own_entries(overrides: Sequence[str]) -> list[str]:
    """The name of a set whose entries are given on the command line, if none is: it is not the one it replaces."""
    keys = {override.partition("=")[0].lstrip("+") for override in overrides}
    own = any(key.startswith(f"{GROUP}.entries") for key in keys)
    return [f"{GROUP}.name={OWN_ENTRIES}"] if own and f"{GROUP}.name" not in keys else []


def is_file(name: str, configured: Collection[str] = ()) -> bool:
    """Whether a name means a file: it looks like the path of one, or one is there, and it is not configured."""
    if not name or name in configured or name.endswith(SCHEMA_SUFFIX):
        return False
    path = Path(name).expanduser()
    return "/" in name or path.suffix.lower() in PROMPT_FILES or path.is_file()


def _register(name: str) -> str:
    """Make the prompts of a file a choice of Hydra, and return the choice's name."""
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserInputError(
            f"prompts={name}: this is a folder"
            if path.is_dir()
            else f"prompts={name}: there is no such file",
            hint=f"give a file ({KINDS})",
        )
    prompts = {"defaults": [f"{GROUP}{SCHEMA_SUFFIX}"], "name": stored(path.stem, _TEXT), **_read(path)}
    store = ConfigStore.instance()
    plain = re.sub(r"[^\w.-]", "_", path.name)
    number = 1
    while f"{(choice := f'{plain}-{number}')}.yaml" in store.repo.get(GROUP, {}):
        number += 1  # a file of that name in another folder
    store.store(group=GROUP, name=choice, node=prompts)
    return choice


def _read(path: Path) -> dict[str, Any]:
    """The prompt set that a file holds, its texts as OmegaConf stores them."""
    suffix = path.suffix.lower()
    if suffix in _YAML:
        found = load_texts(path, GROUP)
        if isinstance(found, dict) and "entries" in found:
            return {**found, "entries": _entries(path, found["entries"], stored_already=True)}
        if isinstance(found, dict) and "defaults" in found:
            return found  # its entries are those of another set
        entries = load_texts(path, f"{GROUP}.entries") if isinstance(found, list) else None
        return {"entries": _entries(path, entries, stored_already=True)}
    if suffix == ".json":
        parsed = _json(path)
        if isinstance(parsed, dict) and "entries" in parsed:
            return {**_stored(parsed), "entries": _entries(path, parsed["entries"])}
        if isinstance(parsed, list):
            return {"entries": _entries(path, parsed)}
    return _from_lines(path)


def _json(path: Path) -> Any:
    """What a file of JSON holds; None if it is no single value, as JSON lines are not."""
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None


def _entries(path: Path, entries: Any, *, stored_already: bool = False) -> list[dict[str, Any]]:
    """Prompts as a list of texts, or of entries as in `conf/prompts/`. Those without an id get their number."""
    if not isinstance(entries, list) or not all(isinstance(entry, str | dict) for entry in entries):
        raise UserInputError(
            f"{path} holds no list of prompts",
            hint="write a list of texts, each in quotes, or name: and entries: as in conf/prompts/",
        )
    made = []
    for number, entry in enumerate(entries, 1):
        own = {"prompt": entry} if isinstance(entry, str) else entry
        texts = own if stored_already and isinstance(entry, dict) else _stored(own)
        made.append({"id": str(number), **texts})
    return made


def _from_lines(path: Path) -> dict[str, Any]:
    """The lines of a file as `mode=batch` reads it: text, a table, or JSON lines."""
    from ...runs.batch.columns import ColumnNotClearError
    from ...runs.batch.input import OPENAI, open_batch

    try:
        file = open_batch(path)
    except ColumnNotClearError as error:
        raise UserInputError(error.message, hint="call the column prompt") from error
    if file.format == OPENAI:
        raise UserInputError(
            f"{path} is a batch in OpenAI's format, and no prompt set", hint=f"lqmf batch {path} answers it"
        )
    entries, systems = list[dict[str, Any]](), set[str]()
    for line, record in file.records():
        where = f"{path}, line {line}"
        if isinstance(record, Exception):
            raise UserInputError(f"{where}: {record}", hint="correct the line, or leave it out")
        if not any(str(value).strip() for value in record.values() if value is not None):
            continue  # an empty row of a table
        if len(entries) == MOST:
            raise UserInputError(
                f"{path} has more than {MOST:,} prompts", hint="lqmf batch answers a file of any length"
            )
        entry = _entry(where, record, file.prompt_field)
        systems.add(entry.pop("system", ""))
        entries.append({"id": f"line {line}", **_stored(entry)})
    if len(systems) > 1:
        raise UserInputError(
            f"{path} has several system prompts", hint="a prompt set has one; make a file for each"
        )
    system = next(iter(systems), "")
    return {"entries": entries, **({"system": stored(system, _TEXT)} if system else {})}


def _entry(where: str, record: Mapping[str, Any], prompt_field: str) -> dict[str, Any]:
    """A line as an entry of a prompt set, with `system` if it has one.

    Raises:
        UserInputError: it has no prompt, or something that a prompt set cannot have.
    """
    from ...runs.batch.columns import RESERVED, with_reserved_names

    prompt = record.get(prompt_field)
    named = with_reserved_names({name: value for name, value in record.items() if name != prompt_field})
    entry: dict[str, Any] = {}
    for typed, value in named.items():
        name = typed.casefold()
        if value in (None, "") or (name == "turns" and not isinstance(value, list)):
            continue  # in a table, `turns` is a column like any other
        if name == "messages":
            entry |= dict(_turns(where, value))
        elif name in ("id", "custom_id"):
            entry["id"] = str(value)
        elif name in ("turns", "system", "reference"):
            entry[name] = value
        elif name in RESERVED:
            raise UserInputError(
                f"{where} sets {name}, and a prompt set has the same sampling for all",
                hint=f"leave it out, and give mode.sampling.{name}=",
            )
    if prompt is not None and "prompt" not in entry and "turns" not in entry:
        entry["prompt"] = prompt
    texts = [entry.get("prompt", ""), entry.get("system", ""), *(entry.get("turns") or ())]
    if not all(isinstance(text, str) for text in texts) or not any(text.strip() for text in texts[::2]):
        raise UserInputError(
            f"{where} has no text in '{prompt_field}'", hint="give each line a prompt, or leave it out"
        )
    return entry


def _turns(where: str, messages: Any) -> Iterator[tuple[str, Any]]:
    """The parts of an entry that messages are: a system prompt and turns of the user."""
    turns = []
    for at, message in enumerate(messages if isinstance(messages, list) else [None]):
        role, text = (message.get("role"), message.get("content")) if isinstance(message, dict) else ("", "")
        if role == "system" and at == 0:
            yield "system", text
        elif role == "user" and isinstance(text, str):
            turns.append(text)
        else:
            raise UserInputError(
                f"{where}: its messages are no turns of a user",
                hint="a prompt set has a system prompt and turns of the user; the model writes the answers",
            )
    yield ("prompt", turns[0]) if len(turns) == 1 else ("turns", turns)


def _stored(value: Any) -> Any:
    """Texts as OmegaConf stores them, in lists and groups too."""
    if isinstance(value, str):
        return stored(value, _TEXT)
    if isinstance(value, list):
        return [_stored(item) for item in value]
    return {name: _stored(item) for name, item in value.items()} if isinstance(value, dict) else value
