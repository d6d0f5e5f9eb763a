"""Fetches the chosen files into a hidden folder, verifies them, and renames the folder in one step."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...errors import ConflictError, LqmfError, ModelUnusableError, UserInputError
from ..inspect import inspect_model
from .choice import PICKLES, Choice, size_text
from .download import OnBytes, download, part_of
from .record import PullRecord, read_record, write_record
from .repository import HubFile, Repository

PREFIX = ".pulling-"
_LOCK = ".lock"


@dataclass(frozen=True)
class Pull:
    """What is to be fetched, and where it goes.

    Attributes:
        folder: of the model, in the models folder.
        overwrite: replace files there that came from an older commit.
    """

    repository: Repository
    choice: Choice
    folder: Path
    overwrite: bool = False

    @property
    def staging(self) -> Path:
        """Where files arrive. It stays when a pull is interrupted."""
        return self.folder.with_name(f"{PREFIX}{self.folder.name}")

    def is_there(self, file: HubFile) -> bool:
        """Whether the folder has this very file, by its record and its size."""
        record, place = read_record(self.folder), self.folder / self.choice.place(file)
        known = record is not None and record.digests.get(self.choice.place(file)) == file.digest
        return known and place.is_file() and place.stat().st_size == file.size

    @property
    def missing(self) -> list[HubFile]:
        """The files that the folder lacks, smallest first: errors of a model appear in its small files."""
        return sorted((f for f in self.choice.files if not self.is_there(f)), key=lambda f: (f.size, f.path))

    @property
    def arrived(self) -> int:
        """Bytes of the missing files that an earlier try has left in the staging folder."""
        return sum(map(self._arrived, self.missing))

    def _arrived(self, file: HubFile) -> int:
        place = self.staging / self.choice.place(file)
        sizes = [p.stat().st_size for p in (place, part_of(place, file)) if p.is_file()]
        return min(max(sizes, default=0), file.size)

    def check(self) -> None:
        """Refuse what cannot be put there.

        Raises:
            UserInputError: the folder is another model's, or has files of another commit.
            LqmfError: the disk has not the room.
        """
        if self.folder.exists():
            self._check_folder()
        needed, free = sum(f.size for f in self.missing) - self.arrived, free_bytes(self.folder)
        if needed > free:
            raise LqmfError(
                f"the disk has {size_text(free)} free, this needs {size_text(needed)} more",
                hint="make room, or set models_dir to a folder on another disk",
            )

    def _check_folder(self) -> None:
        record, name = read_record(self.folder), self.folder.name
        if record is None or record.hub_id != self.repository.hub_id:
            origin = f"comes from {record.hub_id}" if record else "was not fetched from the hub"
            raise UserInputError(
                f"{name} is there already and {origin}", hint="give it another name: mode.output=<name>"
            )
        changed = [f.path for f in self.missing if (self.folder / self.choice.place(f)).exists()]
        if changed and not self.overwrite:
            raise UserInputError(
                f"{name} is there already, from commit {record.commit[:8]}; "
                f"the hub's {self.repository.commit[:8]} has another {changed[0]}",
                hint="mode.overwrite=true replaces it, mode.output=<name> puts the new one beside it",
            )


def pull(plan: Pull, on_bytes: OnBytes, say: Callable[[str], None] = lambda text: None) -> None:
    """Fetch what is missing. The folder gets the files when all are there and their digests are the hub's.

    Args:
        on_bytes: see `download`; counts the missing files.
        say: gets a line for each file that is begun.

    Raises:
        ConflictError: another process fetches it.
        ModelUnusableError: the files are whole, and not a model that can run here; they are not kept.
        LqmfError: see `download`.
    """
    plan.check()
    missing = plan.missing
    if not missing:
        return
    with _locked(plan.staging):
        for file in missing:
            say(file.path)
            download(plan.repository, file, plan.staging / plan.choice.place(file), on_bytes)
            if file.path == "config.json":
                _refuse_own_code(plan)
        _prove(plan, missing)
        _publish(plan, missing)
        shutil.rmtree(plan.staging)


def free_bytes(folder: Path) -> int:
    """Free bytes of the disk that holds the folder, which may not be there yet."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


@contextmanager
def _locked(staging: Path) -> Iterator[None]:
    """The staging folder, for this process alone. The lock ends with the process."""
    staging.mkdir(parents=True, exist_ok=True)
    lock = os.open(staging / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConflictError(
            f"{staging.name.removeprefix(PREFIX)} is being fetched by another process"
        ) from None
    finally:
        os.close(lock)


def _refuse_own_code(plan: Pull) -> None:
    """Before gigabytes arrive for nothing: a model that brings code of its own is not fetched with it."""
    from ..files.checkpoint import refuse_remote_code
    from ..files.safetensors import read_json

    try:
        refuse_remote_code(plan.staging, read_json(plan.staging / "config.json"))
    except ModelUnusableError as error:
        shutil.rmtree(plan.staging)
        raise ModelUnusableError(
            f"{plan.repository.hub_id}: {error.message}", hint="code is never fetched; look for another copy"
        ) from error


def _prove(plan: Pull, missing: list[HubFile]) -> None:
    """Inspect the files like a load. Pickles cannot run here, and were requested explicitly."""
    if any(file.path.endswith(PICKLES) for file in missing):
        return
    wanted = [plan.staging / plan.choice.place(file) for file in plan.choice.files]
    if not plan.choice.single_file:
        for place in wanted:  # a checkpoint is inspected as a whole
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                _same_file(plan.folder / place.relative_to(plan.staging), place)
    try:
        inspect_model(wanted[0] if plan.choice.single_file else plan.staging)
    except ModelUnusableError as error:
        shutil.rmtree(plan.staging)
        raise ModelUnusableError(f"{plan.repository.hub_id}: {error.message}", hint=error.hint) from error


def _same_file(source: Path, place: Path) -> None:
    """Have the file in a second place too, by a link where the file system knows them."""
    try:
        os.link(source, place)
    except OSError:
        shutil.copyfile(source, place)


def _publish(plan: Pull, missing: list[HubFile]) -> None:
    """Rename the whole folder, or put the files beside those that are there, the first part of a model last."""
    places = [plan.choice.place(file) for file in plan.choice.files]
    digests = {plan.choice.place(file): file.digest for file in plan.choice.files}
    older = read_record(plan.folder)
    record = PullRecord(
        hub_id=plan.repository.hub_id,
        commit=plan.repository.commit,
        digests=(older.digests if older and (plan.choice.single_file or not plan.overwrite) else {})
        | digests,
    )
    if older is not None and plan.choice.single_file:
        for file in reversed([f for f in plan.choice.files if f in missing]):
            os.replace(plan.staging / plan.choice.place(file), plan.folder / plan.choice.place(file))
        write_record(plan.folder, record)
        return
    whole = plan.staging / "whole"
    whole.mkdir(exist_ok=True)
    for place in places:
        (whole / place).parent.mkdir(parents=True, exist_ok=True)
        os.replace(plan.staging / place, whole / place)
    write_record(whole, record)
    if plan.folder.exists():
        if not plan.overwrite:
            _keep_others(plan.folder, whole)
        os.rename(plan.folder, plan.staging / "replaced")
    os.rename(whole, plan.folder)


def _keep_others(folder: Path, whole: Path) -> None:
    """Move files that were in the folder and were not fetched: they may be the user's own."""
    for path in sorted(folder.rglob("*")):
        place = whole / path.relative_to(folder)
        if not path.is_dir() and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, place)
