"""`StepWatch`: ends the worker when a step of the model does not end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")

LOOKS = 8
"""So many looks at one step, each after the same part of the limit, before it counts as hanging."""


class StepWatch:
    """Looks from another thread whether the step that runs is still the same. Enter it for each step.

    Looks are counted and not seconds, because the process may have been stopped itself.

    Args:
        limit_s: the longest time of a step; None is no limit.
        on_hang: called in that thread, once.
    """

    def __init__(self, limit_s: float | None, on_hang: Callable[[], None]) -> None:
        self._limit_s = limit_s
        self._on_hang = on_hang
        self._changes = 0  # odd while a step runs
        self._seen = self._same = 0
        if limit_s is not None:
            threading.Thread(target=self._watch, args=(limit_s / LOOKS,), name="watch", daemon=True).start()

    def __enter__(self) -> None:
        self._changes += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._changes += 1

    def outside(self, send: Callable[[T], None]) -> Callable[[T], None]:
        """`send` as something that is no part of a step: it waits for a front that does not read."""

        def paused(events: T) -> None:
            running = self._changes % 2
            self._changes += running
            send(events)
            self._changes += running

        return send if self._limit_s is None else paused

    def look(self) -> bool:
        """Whether the step that runs is the same as at the last `LOOKS` looks."""
        same = self._seen == self._changes and self._seen % 2 == 1
        self._seen, self._same = self._changes, self._same + 1 if same else 0
        return self._same >= LOOKS

    def _watch(self, interval_s: float) -> None:
        while not self.look():
            time.sleep(interval_s)
        self._on_hang()
