"""A batch file: its format, which follows from its content, and its lines as items to answer."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import msgspec

from ...errors import UserInputError
from ...openai_api.exchange import Exchange
from ...types import GenerationRequest, SamplingParams
from .lines import BadLineError, openai_exchange, prompt_exchange

OPENAI, JSONL, CSV, TEXT = "openai", "jsonl", "csv", "text"
_SAMPLE = 1 << 16
_SAMPLE_LINES = 20
_LONGEST_LINE = 1 << 26
_LONGEST_CELL = 1 << 24
_DELIMITERS = ",;\t"
_FORMATS_HINT = (
    "give it JSONL, CSV with a header, text with one prompt a line, or OpenAI's batch format, in UTF-8"
)


@dataclass(frozen=True)
class BatchItem:
    """One request of a batch.

    Attributes:
        line: its number in the file, from 1.
        key: its id, or "line <n>" where it has none. No two items have the same.
        exchange: what to generate, and the answer that it makes.
        digest: of all that the answer depends on: the model, the prompt, the sampling.
    """

    line: int
    key: str
    exchange: Exchange
    digest: str

    @property
    def request(self) -> GenerationRequest:
        """The first request that it sends to the engine."""
        return self.exchange.requests[0]


@dataclass(frozen=True)
class BadLine:
    """A line that cannot be answered, and why."""

    line: int
    key: str
    reason: str


@dataclass(frozen=True)
class BatchFile:
    """An input file whose format is known; see `open_batch`."""

    path: Path
    format: str
    prompt_field: str = "prompt"
    delimiter: str = ","

    def items(
        self, model: str, system: str | None, sampling: SamplingParams
    ) -> Iterator[BatchItem | BadLine]:
        """The file's lines in order, read one by one. A bad line is an item too, and does not stop the rest.

        Args:
            model: what answers them, for the digests.
            system: system prompt for lines that have none of their own.
            sampling: for what a line leaves out.
        """
        seen: dict[str, int] = {}
        for line, record in self._records():
            key = f"line {line}"
            try:
                if isinstance(record, BadLineError):
                    raise record
                key = _key(record) or key
                if key in seen:
                    raise BadLineError(f"its id '{key}' is that of line {seen[key]}")
                seen[key] = line
                exchange = self._exchange(record, system, sampling)
                encoded = msgspec.json.encode([model, *exchange.key()])
            except UnicodeEncodeError:
                yield BadLine(line, f"line {line}", "it is not valid UTF-8")
            except RecursionError:
                yield BadLine(line, key, "it is nested too deeply")
            except BadLineError as error:
                yield BadLine(line, key, str(error))
            else:
                yield BatchItem(line, key, exchange, hashlib.sha256(encoded).hexdigest()[:24])

    def _records(self) -> Iterator[tuple[int, dict[str, Any] | BadLineError]]:
        """Line numbers and the objects there, or what is wrong with them."""
        with _open(self.path) as file:
            if self.format == CSV:
                yield from _rows(file, self.delimiter)
                return
            for number, line in enumerate(file, 1):
                text = line.strip()
                if not text:
                    continue
                if self.format == TEXT:
                    yield number, {self.prompt_field: line.rstrip("\r\n")}
                else:
                    yield number, _object(text)

    def _exchange(self, record: dict[str, Any], system: str | None, sampling: SamplingParams) -> Exchange:
        if self.format == OPENAI:
            return openai_exchange(record, sampling)
        cells = self.format == CSV
        return prompt_exchange(record, self.prompt_field, system=system, sampling=sampling, cells=cells)


def open_batch(path: Path, prompt_field: str = "prompt") -> BatchFile:
    """Recognise the format of a batch file.

    Raises:
        UserInputError: it cannot be read, cannot be read twice, is empty, is not text, or has no known format.
    """
    if path.is_fifo():
        raise UserInputError(
            f"the batch file {path} is a pipe, and it is read more than once",
            hint="save it to a file, and name that",
        )
    try:
        with path.open("rb") as file:
            sample = file.read(_SAMPLE) + file.readline(_LONGEST_LINE)
    except OSError as error:
        raise UserInputError(
            f"the batch file {path} cannot be read: {error.strerror}", hint="correct mode.input="
        ) from None
    raw = sample.split(b"\n")
    if b"\0" in sample or sum(map(_is_binary, raw)) > len(raw) / 2:
        raise UserInputError(f"the batch file {path} is not text in UTF-8", hint=_FORMATS_HINT)
    lines = [line.decode("utf-8-sig", "replace").strip() for line in raw]
    lines = [line for line in lines if line][:_SAMPLE_LINES]
    if not lines:
        raise UserInputError(f"the batch file {path} is empty", hint=_FORMATS_HINT)
    objects = [found for found in map(_object, lines) if isinstance(found, dict)]
    if lines[0] in ("{", "[") or (lines[0].startswith(('{"', "[{")) and not objects):
        raise UserInputError(
            f"the batch file {path} is JSON, but not one object a line", hint="convert it: jq -c '.[]'"
        )
    if objects:
        kind = OPENAI if any("custom_id" in found and "body" in found for found in objects) else JSONL
        return BatchFile(path, kind, prompt_field)
    for delimiter in _DELIMITERS:
        if prompt_field in map(str.strip, next(csv.reader([lines[0]], delimiter=delimiter))):
            return BatchFile(path, CSV, prompt_field, delimiter)
    return BatchFile(path, TEXT, prompt_field)


def _open(path: Path) -> TextIO:
    """Bytes that are not UTF-8 become surrogates, which show when the request is encoded. Lines end at \\n alone."""
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n")


def _is_binary(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return True
    return False


def _rows(file: TextIO, delimiter: str) -> Iterator[tuple[int, dict[str, Any] | BadLineError]]:
    csv.field_size_limit(_LONGEST_CELL)
    rows = csv.reader(file, delimiter=delimiter)
    header = [name.strip() for name in next(rows)]
    while True:
        number = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, BadLineError(f"it is not CSV: {error}")
            continue
        if len(row) > len(header):
            yield number, BadLineError(f"it has {len(row)} cells, the header {len(header)}")
        elif any(cell.strip() for cell in row):
            yield number, dict(zip(header, row, strict=False))


def _object(text: str) -> dict[str, Any] | BadLineError:
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        return BadLineError(f"it is not JSON: {error.msg} at character {error.colno}")
    except ValueError as error:  # a number too long to read, or none
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
