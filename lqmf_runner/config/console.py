"""The console that understands plain English."""

from __future__ import annotations

from dataclasses import dataclass

from .checks import at_least
from .texts import FilePath, Name, Text


@dataclass(frozen=True)
class ConsoleConfig:
    """What mode=console is given.

    Attributes:
        say: do this and end; null reads from the terminal.
        dry_run: print how `say` is understood, one JSON object a step, and do nothing.
        confirm: ask for consent to what takes minutes, overwrites or stops something. Where it is unsure what is meant,
            it asks in any case.
        session: name of the session, which is taken up if there is one; null begins a new one.
        folder: where sessions are kept; null is `console` in `output_dir`.
        model: a model that is asked where the plain forms do not understand; null asks one that a running server has
            loaded, if there is one.
        ask_model: false never asks a model.
        timeout_s: longest wait for a server's answer.
    """

    say: Text | None = None
    dry_run: bool = False
    confirm: bool = True
    session: Name | None = None
    folder: FilePath | None = None
    model: Name | None = None
    ask_model: bool = True
    timeout_s: int = 120

    def __post_init__(self) -> None:
        at_least("console.timeout_s", self.timeout_s, 1)
