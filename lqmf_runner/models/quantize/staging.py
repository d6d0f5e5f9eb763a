"""A hidden folder inside the models folder where a result grows, and its publication in one step.

Whoever works in a `.partial-*` folder holds a lock on it, which the system drops with the process. So a folder
without a holder was left by a run that was killed, and the next run removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import QuantizationError, UserInputError

PREFIX = ".partial-"


class Staging:
    """`model` becomes the result, `scratch` is deleted."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.folder = folder
        self.target = target
        self.model = folder / "model"
        self.scratch = folder / "scratch"

    def publish(self, *, replace: bool) -> None:
        """Give the finished model its final name, all at once.

        Raises:
            UserInputError: something else took the name in the meantime.
        """
        readable = self.model.stat().st_mode & 0o666
        for path in [*self.model.rglob("*"), self.model]:
            if path.is_file():
                path.chmod(readable)  # safetensors writes weights that only their owner can read
            _sync(path)
        if replace and self.target.exists():
            os.rename(self.target, self.folder / "replaced")
        try:
            os.rename(self.model, self.target)
        except OSError as error:
            if (self.folder / "replaced").exists():
                os.rename(self.folder / "replaced", self.target)
            raise UserInputError(
                f"{self.target.name} appeared while it was being made", hint="set mode.output to another name"
            ) from error
        _sync(self.target.parent)


@contextmanager
def staging(models_dir: Path, name: str) -> Iterator[Staging]:
    """A staging area for the model `name`, removed at the end whatever happens."""
    models_dir.mkdir(parents=True, exist_ok=True)
    remove_abandoned(models_dir)
    folder = models_dir / f"{PREFIX}{name}-{os.getpid()}"
    folder.mkdir()
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        area = Staging(folder, models_dir / name)
        area.model.mkdir()
        area.scratch.mkdir()
        yield area
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_abandoned(models_dir: Path) -> None:
    """Remove the folders that killed runs left behind."""
    for folder in models_dir.glob(f"{PREFIX}*"):
        if folder.is_symlink() or not folder.is_dir():
            continue
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass  # its owner is running
        finally:
            os.close(lock)


def require_space(models_dir: Path, needed: int) -> None:
    """Raises: QuantizationError: the disk has clearly not the room."""
    models_dir.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(models_dir).free
    if free < needed:
        raise QuantizationError(
            f"the disk has {free / 1e9:.2f} GB free, this needs about {needed / 1e9:.2f} GB",
            hint="make room, or set models_dir to a folder on another disk",
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
