"""A session: its name, its sentences and steps, and its statistics. It can be resumed."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from ..errors import UserInputError
from ..results.times import now
from .understanding.made import models_after

ONE_SHOT = "one-shot"
TRANSCRIPT = "transcript.jsonl"
DONE, FAILED, CANCELLED, REFUSED = "done", "failed", "cancelled", "refused"
_NAME = re.compile(r"[\w][\w .-]{0,63}")


class Entry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A step of a session.

    Attributes:
        at: when it ended, ISO 8601.
        say: the sentence that it is a part of.
        command: the command line that does the same.
        outcome: "done", "failed", "cancelled" or "refused" (not understood, or the user said no).
        seconds: how long it took.
        requests, tokens: that the experiment measured; tokens are output tokens.
    """

    at: str
    say: str
    intent: str
    arguments: dict[str, Any] = {}
    command: str = ""
    outcome: str = DONE
    seconds: float = 0.0
    error: str = ""
    hint: str = ""
    requests: int = 0
    tokens: int = 0


class Session:
    """A session's folder and entries. A transcript that cannot be written is said once and costs nothing else."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        self.name = name
        self.entries = list(_read(self.folder / TRANSCRIPT))
        self.problem = ""

    @property
    def models(self) -> list[str]:
        """The models of the last step that was done with any, so that "it" means them."""
        for entry in reversed(self.entries):
            if entry.outcome == DONE and (models := models_after(entry.intent, entry.arguments)):
                return models
        return []

    def add(self, entry: Entry) -> None:
        """Record an entry. A line is written at once, so two consoles can share a session."""
        self.entries.append(entry)
        line = msgspec.json.encode(entry) + b"\n"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder / TRANSCRIPT, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with contextlib.closing(os.fdopen(descriptor, "ab", buffering=0)) as file:
                file.write(line)
        except OSError as error:
            self.problem = self.problem or f"this session is not kept: {error.strerror}"

    def statistics(self) -> dict[str, float]:
        """What was done in it, from its first day on."""
        done = [entry for entry in self.entries if entry.outcome == DONE]
        return {
            "commands done": len(done),
            "commands failed": sum(entry.outcome == FAILED for entry in self.entries),
            "cancelled or refused": sum(entry.outcome in (CANCELLED, REFUSED) for entry in self.entries),
            "requests measured": sum(entry.requests for entry in self.entries),
            "output tokens measured": sum(entry.tokens for entry in self.entries),
            "seconds of work": round(sum(entry.seconds for entry in self.entries), 1),
        }


def open_session(folder: Path, name: str | None, *, one_shot: bool = False) -> Session:
    """The session with this name; without one, a new session that is named by the time, or that of all one-shots.

    Raises:
        UserInputError: no folder can have the name.
    """
    if name is not None and not _NAME.fullmatch(name):
        raise UserInputError(
            f"a session cannot be called '{name[:80]}'", hint="use letters, digits, blanks, dots and dashes"
        )
    if one_shot:
        return Session(folder, name or ONE_SHOT)
    return Session(folder, name or f"{datetime.now():%Y-%m-%d-%H-%M-%S}-{os.getpid()}")


def models_of(entry: Entry) -> list[str]:
    """The models of a step."""
    models = entry.arguments.get("models") or [entry.arguments.get("model")]
    return [str(model) for model in models if model]


def all_entries(folder: Path) -> list[Entry]:
    """The entries of all sessions, the oldest first."""
    found = [entry for path in folder.glob(f"*/{TRANSCRIPT}") for entry in _read(path)]
    return sorted(found, key=lambda entry: entry.at)


def entry_at_now(**fields: Any) -> Entry:
    """An entry of this moment."""
    return Entry(at=now(), **fields)


def _read(path: Path) -> Iterator[Entry]:
    """The entries of a transcript. An incomplete line of a crash is skipped."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(msgspec.DecodeError):
            yield msgspec.json.decode(line, type=Entry)
