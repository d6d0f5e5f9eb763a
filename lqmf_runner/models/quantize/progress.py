"""Shows the progress of a quantization in the terminal."""

from __future__ import annotations

from types import TracebackType

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ...output import OutputConsole
from .base import Report


class ProgressBar:
    """One line a model: what is being done, how far it is, the time. Use as a context manager."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.fields[name]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=OutputConsole(stderr=True),
        )

    def task(self, name: str) -> Report:
        """Add a line; returns what to report its progress to."""
        self.finish()  # models are made one after the other: the clocks of earlier ones stop here
        line = self._progress.add_task("starting", name=name, total=None)

        def report(stage: str, done: int, total: int) -> None:
            text = f"{stage} {done}/{total}" if total else stage
            self._progress.update(line, description=text, completed=done, total=total or None)

        return report

    def finish(self) -> None:
        """Mark all lines as done."""
        for line in self._progress.task_ids:
            self._progress.update(line, description="done", completed=1, total=1)

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None:
            self.finish()
        self._progress.stop()
