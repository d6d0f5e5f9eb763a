"""Writing what a run leaves, and reading it back: `results.json`, lines of JSON, the resolved configuration."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..errors import UserInputError
from .schema import Judgement, RequestRecord, Results

Line = TypeVar("Line")

RESULTS, REQUESTS = "results.json", "requests.jsonl"
JUDGEMENTS, SYSTEM = "judgements.jsonl", "system.jsonl"
# Made here, as msgspec learns a type when it first decodes it, and crashes if two threads do so at the same time.
_results = msgspec.json.Decoder(Results)
_lines = (msgspec.json.Decoder(RequestRecord), msgspec.json.Decoder(Judgement))


def write_results(results: Results, folder: Path) -> Path:
    """Write `results.json`; see `write_whole`."""
    path = folder / RESULTS
    write_whole(path, encode_results(results))
    return path


def encode_results(results: Results) -> bytes:
    """What `results.json` holds."""
    return msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader, a crash, or a full disk leaves the old file or the new one and nothing between.

    Raises:
        OSError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def read_results(folder: Path) -> Results:
    """Read `results.json` of a run's folder.

    Raises:
        UserInputError: the folder holds no results, or not those of this program.
    """
    path = folder / RESULTS
    try:
        return _results.decode(path.read_bytes())
    except OSError:
        raise UserInputError(
            f"{folder} holds no results.json",
            hint="name the folder of a run, as in outputs/<date>/<time>-<mode>",
        ) from None
    except msgspec.DecodeError as error:
        raise UserInputError(
            f"{path} cannot be read: {error}", hint="is it the results of another program?"
        ) from None


def read_requests(folder: Path) -> list[RequestRecord]:
    """Read `requests.jsonl`."""
    return read_lines(folder / REQUESTS, RequestRecord)


def read_judgements(folder: Path) -> list[Judgement]:
    """Read `judgements.jsonl`; none where no judge was asked."""
    return read_lines(folder / JUDGEMENTS, Judgement)


def read_lines(path: Path, kind: type[Line]) -> list[Line]:
    """The records of a file of JSON lines; empty if there is no file. An incomplete line of a crash is dropped."""
    return decode_lines(path.read_bytes().splitlines(), kind) if path.exists() else []


def decode_lines(lines: Iterable[bytes], kind: type[Line]) -> list[Line]:
    """The records of lines. An incomplete line of a crash is dropped."""
    decoder = msgspec.json.Decoder(kind)
    records: list[Line] = []
    for line in lines:
        try:
            records.append(decoder.decode(line))
        except msgspec.DecodeError:
            continue
    return records


def read_config(folder: Path) -> dict[str, Any]:
    """The resolved configuration that was saved with a run, without secrets; empty if there is none."""
    try:
        config = json.loads((folder / ".hydra" / "resolved.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def clear_results(folder: Path) -> None:
    """Delete the files of an earlier run to which a new run would append."""
    for name in (RESULTS, REQUESTS, JUDGEMENTS, SYSTEM):
        (folder / name).unlink(missing_ok=True)
