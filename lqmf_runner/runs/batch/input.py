"""The lines of a batch file as requests. JSONL, CSV, plain text and OpenAI's batch format are told by their content."""

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
from ...types import GenerationRequest, Message, SamplingParams

OPENAI, JSONL, CSV, TEXT = "openai", "jsonl", "csv", "text"
_SAMPLE = 1 << 16
_SAMPLE_LINES = 20
_LONGEST_LINE = 1 << 26
_LONGEST_CELL = 1 << 24
_DELIMITERS = ",;\t"
_URLS = ("/v1/chat/completions", "/v1/completions")
_FORMATS_HINT = (
    "give it JSONL, CSV with a header, text with one prompt a line, or OpenAI's batch format, in UTF-8"
)
# Fields of a body that change nothing in the answer of the one model that is loaded.
_IGNORED = {"model", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
_SAMPLING = set(SamplingParams.__struct_fields__) - {"logprobs", "constraint"}


@dataclass(frozen=True)
class BatchItem:
    """One request of a batch.

    Attributes:
        line: where it is in the file, from 1.
        key: its id, or "line <n>" where it has none. No two items have the same.
        digest: of all that the answer depends on: the model, the prompt, the sampling.
        chat: whether OpenAI's answer to it is a chat completion.
    """

    line: int
    key: str
    request: GenerationRequest
    digest: str
    chat: bool = True


@dataclass(frozen=True)
class BadLine:
    """A line that is no request, and why."""

    line: int
    key: str
    reason: str


class _BadLineError(Exception):
    """What is wrong with the line at hand."""


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
        """The file's requests in order, read as they are taken; a bad line is told and does not stop the rest.

        `model` says what answers them, for the digests.
        """
        seen: dict[str, int] = {}
        for line, record in self._records():
            key = f"line {line}"
            try:
                if isinstance(record, _BadLineError):
                    raise record
                key = _key(record) or key
                if key in seen:
                    raise _BadLineError(f"its id '{key}' is that of line {seen[key]}")
                seen[key] = line
                request = self._request(record, system, sampling)
                encoded = msgspec.json.encode([model, request])
            except UnicodeEncodeError:
                yield BadLine(line, f"line {line}", "it is not valid UTF-8")
            except _BadLineError as error:
                yield BadLine(line, key, str(error))
            else:
                digest = hashlib.sha256(encoded).hexdigest()[:24]
                chat = self.format != OPENAI or record["url"] == _URLS[0]
                yield BatchItem(line, key, request, digest, chat)

    def _records(self) -> Iterator[tuple[int, dict[str, Any] | _BadLineError]]:
        """Line numbers and what stands there."""
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

    def _request(
        self, record: dict[str, Any], system: str | None, sampling: SamplingParams
    ) -> GenerationRequest:
        if self.format == OPENAI:
            return _openai_request(record, sampling)
        record = {k: v for k, v in record.items() if not (self.format == CSV and v == "")}
        given = {name: record[name] for name in _SAMPLING & set(record)}
        if self.format == CSV:
            given = {name: _number(name, text) for name, text in given.items()}
        sampling = _sampling(given, sampling)
        if "messages" in record:
            return GenerationRequest(messages=_messages(record["messages"]), sampling=sampling)
        prompt = record.get(self.prompt_field)
        if not isinstance(prompt, str) or not prompt.strip():
            raise _BadLineError(
                f"it has no text in '{self.prompt_field}'"
                + (" and no 'messages'" if self.format == JSONL else "")
            )
        first = record.get("system") or system
        messages = [Message("system", str(first))] if first else []
        return GenerationRequest(messages=(*messages, Message("user", prompt)), sampling=sampling)


def open_batch(path: Path, prompt_field: str = "prompt") -> BatchFile:
    """Recognise the format of a batch file.

    Raises:
        UserInputError: it cannot be read, or not twice, is empty, is not text, or is of no known format.
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


def _rows(file: TextIO, delimiter: str) -> Iterator[tuple[int, dict[str, Any] | _BadLineError]]:
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
            yield number, _BadLineError(f"it is not CSV: {error}")
            continue
        if len(row) > len(header):
            yield number, _BadLineError(f"it has {len(row)} cells, the header {len(header)}")
        elif any(cell.strip() for cell in row):
            yield number, dict(zip(header, row, strict=False))


def _object(text: str) -> dict[str, Any] | _BadLineError:
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        return _BadLineError(f"it is not JSON: {error.msg} at character {error.colno}")
    except ValueError as error:  # a number too long to read, or none
        return _BadLineError(f"it is not JSON: {error}")
    except RecursionError:
        return _BadLineError("it is nested too deeply")
    return found if isinstance(found, dict) else _BadLineError("it is not a JSON object")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def _key(record: dict[str, Any]) -> str | None:
    for name in ("custom_id", "id"):
        value = record.get(name)
        if isinstance(value, str | int) and str(value).strip():
            return str(value)
    return None


def _openai_request(record: dict[str, Any], sampling: SamplingParams) -> GenerationRequest:
    if not isinstance(record.get("custom_id"), str):
        raise _BadLineError("it has no 'custom_id'")
    if record.get("method", "POST") != "POST" or record.get("url") not in _URLS:
        raise _BadLineError(f"only POST to {' and '.join(_URLS)} can be answered")
    body = record.get("body")
    if not isinstance(body, dict):
        raise _BadLineError("it has no 'body'")
    given: dict[str, Any] = {}
    chat = record["url"] == _URLS[0]
    content = "messages" if chat else "prompt"
    for name, value in body.items():
        if name in _SAMPLING:
            given[name] = value
        elif name == "max_completion_tokens":
            given["max_tokens"] = value
        elif name not in (_IGNORED | {content}) and value not in (None, False) and (name, value) != ("n", 1):
            raise _BadLineError(f"body.{name}={json.dumps(value)[:40]} is not supported")
    sampling = _sampling(given, sampling)
    if chat:
        return GenerationRequest(messages=_messages(body.get("messages")), sampling=sampling)
    if not isinstance(prompt := body.get("prompt"), str):
        raise _BadLineError("body.prompt is not a text")
    return GenerationRequest(prompt=prompt, sampling=sampling)


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise _BadLineError("'messages' is not a list of messages")
    messages = []
    for entry in value:
        if not isinstance(entry, dict) or not isinstance(entry.get("role"), str):
            raise _BadLineError("a message has no 'role'")
        content = entry.get("content")
        if isinstance(content, list) and all(_is_text(part) for part in content):
            content = "".join(part["text"] for part in content)
        if not isinstance(content, str):
            raise _BadLineError("the 'content' of a message is not text")
        messages.append(Message(entry["role"], content))
    return tuple(messages)


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _sampling(given: dict[str, Any], base: SamplingParams) -> SamplingParams:
    """The base with what a line says itself; null leaves the base."""
    given = {name: value for name, value in given.items() if value is not None}
    if isinstance(stop := given.get("stop"), str):
        given["stop"] = [stop]
    try:
        return msgspec.convert({**msgspec.to_builtins(base), **given}, SamplingParams, str_keys=True)
    except msgspec.ValidationError as error:
        raise _BadLineError(f"its sampling is wrong: {error}") from None


def _number(name: str, text: str) -> Any:
    """A cell of CSV: numbers as such, all else as it is."""
    if name == "stop":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
