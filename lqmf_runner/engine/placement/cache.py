"""The copies of model files that a node keeps, and which of them go when they take too much. It runs on the node.

They are in `lqmf-runner/models` in the user's cache folder (`XDG_CACHE_HOME`): a folder for each content under its key,
and a hidden one while its files arrive. Two locks belong to a key, and both end with the process that has them. Who
takes the files holds the first alone. Who uses them holds the second together with others. A copy is deleted by a
process that has both alone.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)


class Copy:
    """The place of one content in the cache.

    Attributes:
        folder: where its files are when all of them are there.
        staging: where they arrive.
    """

    def __init__(self, root: Path, key: str) -> None:
        self.key = key
        self.folder = root / key
        self.staging = root / f".{key}"
        self._arrival_lock = root / f".{key}.lock"
        self._use_lock = root / f".{key}.used"

    def lock_arrival(self) -> int | None:
        """The descriptor of a lock that one process at a time has; None if another one has it."""
        return _locked(self._arrival_lock, fcntl.LOCK_EX)

    def use(self) -> int:
        """The descriptor of a lock that protects the copy from deletion. Call it with the lock of the arrival."""
        lock = _locked(self._use_lock, fcntl.LOCK_SH)
        assert lock is not None  # a deletion needs both locks
        os.utime(lock)
        return lock

    @property
    def used_at(self) -> float:
        """When it was last begun to be used, or its arrival began; seconds since the epoch."""
        times = (_modified_at(place) for place in (self._use_lock, self.folder, self.staging))
        return next((time for time in times if time), 0.0)

    @property
    def n_bytes(self) -> int:
        """What its files take."""
        return sum(_size(file) for place in (self.folder, self.staging) for file in _entries(place))

    def delete(self) -> bool:
        """Delete the files, unless they are used or arrive now. Returns whether they are deleted."""
        with _held(self.lock_arrival()) as no_arrival:
            if not no_arrival:
                return False
            with _held(_locked(self._use_lock, fcntl.LOCK_EX)) as unused:
                if unused:
                    shutil.rmtree(self.folder, ignore_errors=True)
                    shutil.rmtree(self.staging, ignore_errors=True)
                    for lock in (self._use_lock, self._arrival_lock):
                        lock.unlink(missing_ok=True)
                return unused


def cache_folder() -> Path:
    """Where this user's models from elsewhere are kept on this machine."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "lqmf-runner" / "models"


def make_room(root: Path, coming: str, n_bytes: int, missing: int, limit: float) -> None:
    """Delete the least recently used copies until there is room for another one, if they may be deleted.

    Args:
        coming: the key of the copy that needs room. It stays whatever it takes.
        n_bytes: what it takes in the end.
        missing: how much of that is not on the disk yet.
        limit: bytes of all copies together.
    """
    folders = {entry.name.removeprefix(".") for entry in _entries(root) if entry.is_dir()}
    others = sorted((Copy(root, key) for key in folders - {coming}), key=lambda copy: copy.used_at)
    kept = n_bytes + sum(copy.n_bytes for copy in others)
    for copy in others:
        if kept <= limit and shutil.disk_usage(root).free >= missing:
            return
        size = copy.n_bytes
        if copy.delete():
            log.info("deleted the copy %s, %.0f MB", copy.key, size / 1e6)
            kept -= size


@contextmanager
def _held(lock: int | None) -> Iterator[bool]:
    """Whether there is a lock, which is given back at the end."""
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


def _locked(file: Path, kind: int) -> int | None:
    while True:
        lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        if _is_at(lock, file):
            return lock
        os.close(lock)  # between the two calls its copy was deleted, and the file with it


def _is_at(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _modified_at(place: Path) -> float:
    try:
        return place.stat().st_mtime
    except FileNotFoundError:
        return 0.0
