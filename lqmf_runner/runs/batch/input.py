"""A batch file: its format, recognised from its content, and its lines as items to answer."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ...errors import UserInputError
from ...openai_api.exchange import Exchange
from ...types import GenerationRequest, SamplingParams
from .columns import RESERVED, choose_column, find_name, shown_name, with_reserved_names
from .lines import BadLineError, notes_on_fields, openai_exchange, own_fields, prompt_exchange
from .table import Table, recognise_table
from .text_file import FORMATS_HINT, TextFile, open_text

OPENAI, JSONL, CSV, TEXT = "openai", "jsonl", "csv", "text"
_SAMPLE_LINES = 100
_JSON_LINES = {".jsonl", ".ndjson"}


@dataclass(frozen=True)
class BatchItem:
    """One request of a batch.

    Attributes:
        line: its number in the file, from 1.
        key: its id, or "line <n>" where it has none. No two items have the same.
        exchange: what to generate, and the answer that it makes.
        digest: of all that the answer depends on: the model, the prompt, the sampling.
        record: the line as it is in the file, by the names of its columns or keys.
        own: what it has beside its request.
        asked_model: the model that it names.
    """

    line: int
    key: str
    exchange: Exchange
    digest: str
    record: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Any] = field(default_factory=dict)
    asked_model: str | None = None

    @property
    def request(self) -> GenerationRequest:
        """The first request to the engine."""
        return self.exchange.requests[0]


@dataclass(frozen=True)
class BadLine:
    """A line that cannot be answered, and why. `record` is empty if it cannot be read."""

    line: int
    key: str
    reason: str
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchFile:
    """An input file whose format is known; see `open_batch`.

    Attributes:
        prompt_field: name of the prompt, as the file has it.
        table: how its rows are read, if it is CSV.
        prefer_prompt: lines that have both a prompt and messages are their prompts.
        notes: what the user should know of how the file is read.
    """

    text: TextFile
    format: str
    prompt_field: str = "prompt"
    table: Table | None = None
    prefer_prompt: bool = False
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The file."""
        return self.text.path

    @property
    def kind(self) -> str:
        """What its user calls it: the sheet of a workbook is read as CSV."""
        return self.format if self.text.sheet is None else "xlsx"

    def items(
        self, model: str, system: str | None, sampling: SamplingParams
    ) -> Iterator[BatchItem | BadLine]:
        """The file's lines in order, read one by one. A bad line is an item too and does not stop the others.

        Args:
            model: what answers them, for the digests.
            system: system prompt for lines that have none of their own.
            sampling: for what a line leaves out.
        """
        seen: dict[str, int] = {}
        for line, found in self.records():
            key, record = f"line {line}", found.record if isinstance(found, BadLineError) else found
            try:
                if isinstance(found, BadLineError):
                    raise found
                named = self._named(found)
                key = _key(named) or key
                if key in seen:
                    raise BadLineError(f"its id '{key}' is that of line {seen[key]}")
                seen[key] = line
                exchange = self._exchange(named, system, sampling)
                encoded = msgspec.json.encode([model, *exchange.key()])
                own = self._own(named)
                msgspec.json.encode(own)
            except UnicodeEncodeError:
                yield BadLine(line, f"line {line}", "it is not valid UTF-8; save the file in UTF-8", record)
            except RecursionError:
                yield BadLine(line, key, "it is nested too deeply")
            except BadLineError as error:
                yield BadLine(line, key, str(error), record)
            else:
                digest = hashlib.sha256(encoded).hexdigest()[:24]
                yield BatchItem(line, key, exchange, digest, record, own, self._asked_model(named))

    def columns(self) -> list[str]:
        """Names of the columns or keys of all lines, in their order."""
        if self.table is not None:
            return list(self.table.header)
        names: dict[str, None] = {}
        for _, record in self.records():
            if not isinstance(record, BadLineError):
                names |= dict.fromkeys(record)
        return list(names)

    def records(self) -> Iterator[tuple[int, dict[str, Any] | BadLineError]]:
        """Line numbers and the objects there, or what is wrong with them."""
        with self.text.open() as file:
            if self.table is not None:
                yield from self.table.read(file)
                return
            for number, line in enumerate(file, 1):
                text = line.strip()
                if not text:
                    continue
                if self.format == TEXT:
                    yield number, {self.prompt_field: line.rstrip("\r\n")}
                else:
                    yield number, _object(text)

    def _named(self, record: dict[str, Any]) -> dict[str, Any]:
        """The record with the names that a line has here, whatever their case in the file."""
        if self.format == OPENAI:
            return record
        prompt = find_name(list(record), self.prompt_field)
        if prompt == self.prompt_field not in RESERVED:
            return with_reserved_names(record)
        rest = with_reserved_names({name: value for name, value in record.items() if name != prompt})
        return rest if prompt is None else {self.prompt_field: record[prompt], **rest}

    def _exchange(self, record: dict[str, Any], system: str | None, sampling: SamplingParams) -> Exchange:
        if self.format == OPENAI:
            return openai_exchange(record, sampling)
        return prompt_exchange(
            record,
            self.prompt_field,
            system=system,
            sampling=sampling,
            cells=self.table is not None,
            prefer_prompt=self.prefer_prompt,
        )

    def _own(self, record: dict[str, Any]) -> dict[str, Any]:
        if self.format == OPENAI:
            return {}
        return own_fields(record, self.prompt_field, cells=self.table is not None)

    def _asked_model(self, record: dict[str, Any]) -> str | None:
        asked = record["body"].get("model") if self.format == OPENAI else None
        if "messages" in record and self.table is None:
            asked = record.get("model")
        return asked if isinstance(asked, str) else None


def open_batch(path: Path, prompt_field: str | None = None, format: str | None = None) -> BatchFile:
    """Recognise the format of a batch file, and where its prompts are.

    Args:
        prompt_field: name of the column or key; None looks for it.
        format: "openai", "jsonl", "csv" or "text"; None looks at the content and the suffix.

    Raises:
        UserInputError: it cannot be read, cannot be read twice, is empty, is not text, has no known format, or does
            not say clearly where its prompts are.
    """
    text = open_text(path)
    lines = [line for part in text.sample.split(text.newline) if (line := part.strip().lstrip("\ufeff"))]
    if not lines:
        raise UserInputError(f"the batch file {path} is empty", hint=FORMATS_HINT)
    objects = _objects(path, lines[:_SAMPLE_LINES]) if format in (None, OPENAI, JSONL) else []
    if objects or format in (OPENAI, JSONL):
        openai = any("custom_id" in found and "body" in found for found in objects)
        if format == OPENAI or (openai and format is None):
            return BatchFile(text, OPENAI)
        return _json_lines(text, objects, prompt_field)
    if format is None and path.suffix.lower() in _JSON_LINES:
        raise UserInputError(
            f"{path} has no JSON object in its first lines", hint='write one a line: {"prompt": ...}'
        )
    sure = format == CSV or text.sheet is not None
    table, note = recognise_table(text, prompt_field, sure=sure) if format != TEXT else (None, None)
    if table is not None:
        return _table(text, table, prompt_field)
    if prompt_field is not None:
        raise UserInputError(
            f"{path} is text with a prompt in every line, and has no column '{prompt_field}'",
            hint="leave mode.prompt_field out; if it is a table: mode.input_format=csv",
        )
    return BatchFile(text, TEXT, notes=(note,) if note else ())


def _objects(path: Path, lines: list[str]) -> list[dict[str, Any]]:
    objects = [found for found in map(_object, lines) if isinstance(found, dict)]
    if lines[0] in ("{", "[") or (lines[0].startswith(('{"', "[{")) and not objects):
        raise UserInputError(
            f"the batch file {path} is JSON, but not one object a line", hint="convert it: jq -c '.[]'"
        )
    return objects


def _json_lines(text: TextFile, objects: list[dict[str, Any]], asked: str | None) -> BatchFile:
    objects = [with_reserved_names(found) for found in objects]
    prompts = [found for found in objects if "messages" not in found]
    texts = _values(objects if asked is not None else prompts)
    if not texts:
        return BatchFile(text, JSONL)
    name = choose_column(text.path, texts, asked, keys=True)
    notes = _notes(name, asked, prompts, cells=False)
    return BatchFile(text, JSONL, name, prefer_prompt=asked is not None, notes=notes)


def _values(records: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Values by name. Spellings that differ only in case are one name, unless a line has both."""
    twice = {name for found in records for name, n in Counter(map(str.casefold, found)).items() if n > 1}
    spelling: dict[str, str] = {}
    values: dict[str, list[Any]] = {}
    for found in records:
        for name, value in found.items():
            low = name.casefold()
            values.setdefault(name if low in twice else spelling.setdefault(low, name), []).append(value)
    return values


def _table(text: TextFile, table: Table, asked: str | None) -> BatchFile:
    columns = {name: table.column(index) for index, name in enumerate(table.header)}
    name = choose_column(text.path, columns, asked, unnamed=table.unnamed)
    rows = [with_reserved_names(dict(zip(table.header, row, strict=False))) for row in table.body]
    notes = (*(text.sheet.notes if text.sheet else ()), *_notes(name, asked, rows, cells=True))
    if f"{name}.2" in columns:
        notes = (f"there are several columns '{shown_name(name)}'; the first has the prompts", *notes)
    return BatchFile(text, CSV, name, table, notes=notes)


def _notes(name: str, asked: str | None, records: list[dict[str, Any]], *, cells: bool) -> tuple[str, ...]:
    chosen = asked is None and name != "prompt"
    where = (
        [f"the prompts are read from '{shown_name(name)}'; mode.prompt_field= names another"]
        if chosen
        else []
    )
    return (*where, *notes_on_fields(records, name, cells=cells))


def _object(text: str) -> dict[str, Any] | BadLineError:
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        return BadLineError(f"it is not JSON: {error.msg} at character {error.colno}")
    except ValueError as error:  # a number that is too long to read, or no number
        return BadLineError(f"it is not JSON: {error}")
    except RecursionError:
        return BadLineError("it is nested too deeply")
    return found if isinstance(found, dict) else BadLineError("it is not a JSON object")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def _key(record: dict[str, Any]) -> str | None:
    for name in ("custom_id", "id"):
        value = record.get(name)
        if isinstance(value, str | int) and str(value).strip():
            return str(value)
    return None
