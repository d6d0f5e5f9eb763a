"""The answers of a batch: a line of JSON for each, with the data that a later run needs to continue."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ...errors import LqmfError, UserInputError
from ...openai_api.answers import new_id
from ...openai_api.errors import error_body
from ...openai_api.schemas import ChatCompletion
from ...results.logs.line_file import LineFile
from ...types import Completion, Usage
from .input import OPENAI, BadLine, BatchItem

_BEGINNINGS = (b'{"line":', b'{"id":')
_RESUME = "run the same command again: it goes on where it stopped"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an item: the completions of its requests, or the last error.

    Attributes:
        usage: of all completions together.
        attempts: how often it was sent.
        e2e_s: sent → last chunk, of the last attempt.
    """

    completions: list[Completion] = []
    usage: Usage = Usage()
    error: LqmfError | None = None
    attempts: int = 1
    e2e_s: float = 0.0


class _Line(NamedTuple):
    """A line of the file: what it answers, and where it lies. The digest of a failed one is None."""

    key: str
    digest: str | None
    at: int
    size: int


class OutputError(LqmfError):
    """Answers cannot be written any more."""


class BatchOutput:
    """The output file. Opening it removes an incomplete last line and the lines of failed items, which are tried again.

    `done` maps the key of each answered item to its digest. While a run writes the file, a second one is refused.

    Raises:
        UserInputError: the file holds something else, or another run is writing it.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path, format: str, model: str) -> None:
        self.path = path
        self.done: dict[str, str] = {}
        self._openai = format == OPENAI
        self._model = model
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._lock(LineFile(path))
            kept = self._read()
            if kept is not None:
                self._rewrite(kept)
        except OSError as error:
            raise self._unwritable(error) from None

    def check(self, item: BatchItem) -> bool:
        """Whether the file already has the item's answer.

        Raises:
            UserInputError: that answer is to another request, model or sampling.
        """
        digest = self.done.get(item.key)
        if digest is not None and digest != item.digest:
            raise UserInputError(
                f"{self.path} answers {item.key} of another batch: its prompt, the model or the sampling differs",
                hint="choose another mode.output=, or remove the file to begin again",
            )
        return digest is not None

    def write(self, item: BatchItem, outcome: Outcome) -> None:
        """Add the answer to an item, or its error.

        Raises:
            OutputError: the disk is full or gone. The file still holds whole lines only.
        """
        if self._openai:
            self._append(_openai_line(item, outcome, self._model))
            return
        self._append(
            _named(item)
            | {"model": self._model, "prompt": prompt_of(item)}
            | ({"columns": item.own} if item.own else {})
            | (_answer(item, outcome) if outcome.error is None else {"error": str(outcome.error)})
            | {"attempts": outcome.attempts, "request": item.digest}
        )

    def write_bad(self, bad: BadLine) -> None:
        """Add the error of a line that cannot be answered. Raises OutputError as `write` does."""
        if self._openai:
            error = {"code": "invalid_request", "message": f"line {bad.line}: {bad.reason}"}
            custom_id = None if bad.key == f"line {bad.line}" else bad.key
            self._append({"id": None, "custom_id": custom_id, "response": None, "error": error})
        else:
            self._append(_named(bad) | {"error": bad.reason})

    def arrange(self, order: Mapping[str, int]) -> None:
        """Put the lines into the order of the input at the end of a run. During the run they are in the order of the
        answers.

        Args:
            order: positions by key. Lines with other keys come last.

        Raises:
            OutputError: it cannot be written; the file is as it was.
        """
        try:
            placed = [(order.get(line.key, len(order)), line.at, line.size) for line in self._lines()]
            if placed != sorted(placed):
                self._rewrite([(at, size) for _, at, size in sorted(placed)])
        except OSError as error:
            raise self._unwritable(error) from None

    def read(self) -> Callable[[str], dict[str, Any] | None]:
        """A reader that finds the lines of items by their keys."""
        places = {line.key: (line.at, line.size) for line in self._lines()}

        def find(key: str) -> dict[str, Any] | None:
            if key not in places:
                return None
            at, size = places[key]
            with self.path.open("rb") as file:
                file.seek(at)
                record: dict[str, Any] = msgspec.json.decode(file.read(size))
                return record

        return find

    def close(self) -> None:
        """Close the file, so that other runs may write it."""
        self._file.close()

    def _append(self, record: dict[str, Any]) -> None:
        try:
            self._file.append(msgspec.json.encode(record) + b"\n")
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(
            f"answers cannot be written to {self.path}: {error.strerror or error}",
            hint=f"make room, or choose another mode.output=; then {_RESUME}",
        )

    def _lock(self, file: LineFile) -> LineFile:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UserInputError(
                f"another run is writing {self.path}", hint="wait for it, or choose another mode.output="
            ) from None
        return file

    def _read(self) -> list[tuple[int, int]] | None:
        """Fill `done`. Returns the byte ranges to keep, or None if that is the whole file."""
        kept: list[tuple[int, int]] = []
        complete = True
        for line in self._lines():
            if line.digest is None:
                complete = False
            else:
                self.done[line.key] = line.digest
                kept.append((line.at, line.size))
        return None if complete else kept

    def _lines(self) -> Iterator[_Line]:
        """The lines of the file. An incomplete one is a failed one."""
        at = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                known = _known(line)
                if known is None and not _is_torn(line):
                    raise UserInputError(
                        f"{self.path} is not the output of a batch: line {number} is something else",
                        hint="choose another mode.output=; nothing was changed",
                    )
                key, digest = known or ("", None)
                yield _Line(key, digest, at, len(line))
                at += len(line)

    def _rewrite(self, kept: list[tuple[int, int]]) -> None:
        draft = self.path.with_name(f".{self.path.name}.part")
        try:
            draft.unlink(missing_ok=True)
            replacement = self._lock(LineFile(draft))
            with self.path.open("rb") as file:
                for at, size in kept:
                    file.seek(at)
                    replacement.append(file.read(size))
            os.fsync(replacement.fileno())
            draft.replace(self.path)
        finally:
            draft.unlink(missing_ok=True)
        self._file.close()
        self._file = replacement


def _known(line: bytes) -> tuple[str, str | None] | None:
    """Key and digest of a line; without a digest it has failed. None for an incomplete one or another program's."""
    if not line.endswith(b"\n"):
        return None
    with contextlib.suppress(ValueError, KeyError, TypeError):
        record = msgspec.json.decode(line)
        if "custom_id" in record and "response" in record:
            key = str(record["custom_id"])
            if record["error"] is not None:
                return key, None
            return key, str(record["id"]).removeprefix("batch_req_").partition("-")[0]
        if "line" in record:
            key = str(record.get("id") or f"line {record['line']}")
            return key, None if "error" in record else record["request"]
    return None


def _is_torn(line: bytes) -> bool:
    """Whether it is an incomplete line of ours. Complete JSON of another program is not."""
    if line.endswith(b"\n") or not any(line.startswith(begin[: len(line)]) for begin in _BEGINNINGS):
        return False
    try:
        msgspec.json.decode(line)
    except msgspec.DecodeError:
        return True
    except UnicodeDecodeError:
        return False
    return _known(line + b"\n") is not None


def _named(item: BatchItem | BadLine) -> dict[str, Any]:
    own = {} if item.key == f"line {item.line}" else {"id": item.key}
    return {"line": item.line, **own}


def is_cut(completions: Sequence[Completion]) -> bool:
    """Whether an answer ended because it reached its maximum length."""
    return any(completion.finish_reason == "length" for completion in completions)


def prompt_of(item: BatchItem) -> str:
    """The user's text: of a conversation its last turn; nothing where it is given as token ids."""
    if not item.exchange.requests:  # an echoed prompt without an answer
        return ""
    request = item.request
    return (request.messages[-1].content if request.messages else request.prompt) or ""


def _answer(item: BatchItem, outcome: Outcome) -> dict[str, Any]:
    """The text of the first choice; `choices` too if there are several, tool calls or log-probabilities."""
    body = item.exchange.answer(outcome.completions, outcome.usage)
    assert isinstance(body, ChatCompletion)
    first = body.choices[0]
    more = len(body.choices) > 1 or first.logprobs or first.message.tool_calls
    return {
        "response": first.message.content or "",
        "finish_reason": first.finish_reason,
        **({"choices": body.choices} if more else {}),
        "prompt_tokens": outcome.usage.prompt_tokens,
        "output_tokens": outcome.usage.completion_tokens,
        "e2e_s": round(outcome.e2e_s, 6),
    }


def _openai_line(item: BatchItem, outcome: Outcome, model: str) -> dict[str, Any]:
    """A line of OpenAI's output format. Its id is the digest, which later runs read, and a random part."""
    own = new_id(item.digest)
    record = {"id": f"batch_req_{own}", "custom_id": item.key}
    if outcome.error is None:
        body = item.exchange.answer(outcome.completions, outcome.usage)
        named = msgspec.structs.replace(body, model=model)
        response = {"status_code": 200, "request_id": f"req_{own}", "body": named}
        return record | {"response": response, "error": None}
    refusal = error_body(outcome.error)
    return record | {
        "response": {"status_code": outcome.error.status, "request_id": f"req_{own}", "body": refusal},
        "error": {"code": refusal.error.type, "message": outcome.error.message},
    }
