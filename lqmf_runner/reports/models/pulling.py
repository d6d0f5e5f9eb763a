"""A pull in the terminal: what it takes, how far it is, and what is there at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ...cgroup import available_memory
from ...formats import overhead_mb
from ...models import discover
from ...models.pull import Pull
from ...models.pull.choice import size_text
from ...models.pull.fetch import free_bytes
from ...output import OutputConsole
from ..tables import printable

_NAMED = 6  # so many files are named, the largest


class TransferBar:
    """One line: the file that arrives, and bytes, speed and time left of all. Use as a context manager."""

    def __init__(self, total: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=OutputConsole(stderr=True),
        )
        self._line = self._progress.add_task("", total=total)

    def advance(self, n: int) -> None:
        """So many bytes more have arrived, or less, where some are thrown away."""
        self._progress.advance(self._line, n)

    def name(self, path: str) -> None:
        """Name the file that arrives now."""
        self._progress.update(self._line, description=printable(path))

    def __enter__(self) -> TransferBar:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._progress.stop()


def print_plan(plan: Pull) -> None:
    """The files, their bytes, the disk that is free, and the memory that the model will need."""
    choice, repository = plan.choice, plan.repository
    console = OutputConsole(highlight=False, soft_wrap=True)
    files = sorted(choice.files, key=lambda file: -file.size)
    listed = ", ".join(f"{file.path} {size_text(file.size)}" for file in files[:_NAMED])
    more = f" and {len(files) - _NAMED} smaller" if len(files) > _NAMED else ""
    console.print(
        f"{repository.hub_id} at {repository.commit[:8]}: {len(files)} files, {size_text(choice.size)}, "
        f"to {plan.folder}",
        markup=False,
    )
    console.print(f"files: {printable(listed)}{more}", markup=False)
    missing = sum(file.size for file in plan.missing)
    here = choice.size - missing + plan.arrived
    kept = f" ({size_text(here)} of it is here)" if here else ""
    console.print(
        f"disk: {size_text(missing - plan.arrived)} to fetch{kept}, {size_text(free_bytes(plan.folder))} free"
    )
    needed = choice.size * 1.1 + overhead_mb(choice.format) * 1e6
    free = available_memory()
    fits = "it fits" if needed <= free else "it does not fit now"
    console.print(f"memory: needs about {size_text(needed)}, {size_text(free)} free: {fits}")


def print_pulled(plan: Pull, models_dir: Sequence[str]) -> None:
    """What is there now, and what to type next."""
    console = OutputConsole(highlight=False, soft_wrap=True)
    place = plan.folder / plan.choice.place(plan.choice.files[0])
    wanted = {str(plan.folder.absolute()), str(place.absolute())}
    found = next((m for m in discover(models_dir) if str(Path(m.path).absolute()) in wanted), None)
    if found is None or found.problem:
        why = f": {found.problem}" if found else ""
        console.print(f"fetched to {plan.folder}, which does not run here{why}", markup=False)
        return
    console.print(
        f"ready: {found.name} ({found.method}, {found.parameters / 1e6:,.0f} M parameters, "
        f"{size_text(found.size_mb * 1e6)}, version {found.version[:8]})",
        markup=False,
    )
    console.print(f"next: lqmf chat {found.name}", markup=False)
