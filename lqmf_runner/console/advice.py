"""Advice after an error: settings with which the same step succeeded in earlier sessions."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ..redaction import REDACTED
from .session import DONE, FAILED, Entry, models_of


@dataclass(frozen=True)
class Advice:
    """The settings that succeeded. `arguments` are those of the program."""

    text: str
    arguments: tuple[str, ...]


def way_out(failed: Entry, past: Sequence[Entry]) -> Advice | None:
    """The settings of the last success of the same step, if they differ.

    Args:
        past: all entries of all sessions, the oldest first, with or without the failed one.
    """
    same = [
        entry
        for entry in past
        if (entry.intent, _models(entry)) == (failed.intent, _models(failed)) and entry.command
    ]
    worked = [entry for entry in same if entry.outcome == DONE and entry.command != failed.command]
    if not worked or REDACTED in worked[-1].command:
        return None
    last = worked[-1]
    ours, theirs = _settings(failed), _settings(last)
    more = [word for word in theirs if word not in ours]
    fewer = [word for word in ours if word not in theirs]
    if not more and not fewer:
        return None
    times = sum(entry.command == failed.command and entry.outcome == FAILED for entry in same)
    times += failed not in same
    often = f" has failed {times} times" if times > 1 else " has failed"
    with_what = f"with {shlex.join(more)}" if more else f"without {shlex.join(fewer)}"
    what = f"This{often}" + (f" with {shlex.join(fewer)}" if more and fewer else "")
    return Advice(f"{what}; it worked on {_day(last.at)} {with_what}.", tuple(theirs))


def _models(entry: Entry) -> tuple[str, ...]:
    return tuple(sorted(models_of(entry)))


def _settings(entry: Entry) -> list[str]:
    return shlex.split(entry.command)[1:]


def _day(at: str) -> str:
    when = datetime.fromisoformat(at)
    return f"{when:%A}" if (datetime.now(when.tzinfo) - when).days < 6 else f"{when:%Y-%m-%d}"
