"""The progress that a benchmark shows."""

from __future__ import annotations

from typing import Protocol

from ...engine.on_demand import WorkObserver
from ...results.schema import LoadResult, ModelResult, RequestRecord


class Observer(WorkObserver, Protocol):
    """Shows the progress of a benchmark. It is called from the event loop while requests run, so it must be quick."""

    def loaded(self, model: ModelResult) -> None:
        """The model is loaded."""

    def load_started(self, model: str, load: str, requests: int | None) -> None:
        """A load of so many requests begins; None where a duration ends it."""

    def request_ended(self, record: RequestRecord) -> None:
        """A request of the running load ended."""

    def load_ended(self, model: str, load: str, result: LoadResult) -> None:
        """The load is over, or was cut short."""
