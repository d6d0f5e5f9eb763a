"""The folder of a run. It is made for one run and removed if nothing was run."""

from __future__ import annotations

import fcntl
import shutil
import uuid
from pathlib import Path

from ..errors import UserInputError

MARK_NAME = ".sweep"
"""A file in the folder of a sweep, by which its jobs on all machines know it."""


def make_run_folder(wanted: str) -> Path:
    """Make it. If another run has the name, `-2`, `-3`, ... is appended.

    Raises:
        UserInputError: the disk does not let us.
    """
    folder = Path(wanted)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                number += 1
                folder = Path(f"{wanted}-{number}")
    except OSError as error:
        raise UserInputError(
            f"the run's folder {wanted} cannot be made: {error.strerror}",
            hint="make room, or name another place with output_dir=",
        ) from error


def sweep_name(folder: Path) -> str:
    """A name that no other sweep has: its folder's, and a mark that the first job leaves there.

    Raises:
        OSError: the disk is full or gone.
    """
    with (folder / MARK_NAME).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # jobs may run at the same time
        file.seek(0)
        mark = file.read()
        if not mark:
            mark = uuid.uuid4().hex[:12]
            file.write(mark)
    return f"{Path(*folder.parts[-2:])} {mark}"


def remove_refused_sweep(folder: Path) -> bool:
    """Remove it if no job of the sweep was run, and its parents if that leaves them empty. True if it was removed."""
    if not {path.name for path in folder.glob("*")} <= {"multirun.yaml", MARK_NAME}:
        return False
    for name in ("multirun.yaml", MARK_NAME):
        (folder / name).unlink(missing_ok=True)
    _remove_empty(folder, parents=2)
    return True


def remove_refused_job(folder: Path) -> None:
    """Remove the folder of a job that was refused before it ran. A folder in which a job has run before is kept."""
    if {path.name for path in folder.glob("*")} <= {".hydra", "lqmf.log"}:
        shutil.rmtree(folder, ignore_errors=True)


def remove_refused_run(folder: Path) -> None:
    """The same for a single run, and its parents if that leaves them empty."""
    remove_refused_job(folder)
    if not folder.exists():
        _remove_empty(folder.parent, parents=1)


def _remove_empty(folder: Path, *, parents: int) -> None:
    for empty in (folder, *folder.parents[:parents]):
        try:
            empty.rmdir()
        except OSError:
            break
