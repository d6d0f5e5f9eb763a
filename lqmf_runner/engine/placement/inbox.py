"""`Inbox`: receives a model's files into the cache of a node. It runs on the node.

Files arrive in a hidden folder beside the one of their shipment (see `cache.py`). It gets its name when all are there
and right, so that nobody finds half a model.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ...errors import DoesNotFitError, EngineLostError, LqmfError, ModelUnusableError
from ...models.version import content_version
from .cache import Copy, cache_folder, make_room
from .shipment import ModelFile, Shipment, digest_of

_BLOCK = 1 << 22
_MAKE_ROOM = (
    "delete models in lqmf-runner/models of the cache folder there, or set XDG_CACHE_HOME to another disk"
)


class Arrived(msgspec.Struct, frozen=True):
    """What a node has of a shipment.

    Attributes:
        path: the model's, if all is there.
        missing: else the number of each file that is not whole, and how many bytes of it are there.
    """

    path: str = ""
    missing: tuple[tuple[int, int], ...] = ()


class Inbox:
    """Takes the files of one shipment. One process of a node takes them, and others wait for it.

    Args:
        node: its name, for errors.
        limit: bytes of all copies in the cache together; others are deleted for this one.

    Attributes:
        use: the descriptor of the lock that keeps the copy while this process lives; None before all is there.
    """

    def __init__(self, shipment: Shipment, node: str, limit: float) -> None:
        self._shipment = shipment
        self._node = node
        self._limit = limit
        self._root = cache_folder()
        self._copy = Copy(self._root, shipment.key)
        self._folder, self._staging = self._copy.folder, self._copy.staging
        self._lock: int | None = None
        self.use: int | None = None
        self._digests: dict[int, hashlib._Hash] = {}

    def open(self) -> Arrived | None:
        """What is there already. None if another process is taking the files at present: ask again.

        Raises:
            DoesNotFitError: the disk has no room for the rest.
            LqmfError: the cache cannot be written.
        """
        with self._translated():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = self._copy.lock_arrival()
            if self._lock is None:
                return None
            if self._is_whole():
                self.use = self._copy.use()
                self._make_room(0)
                self.leave()
                return Arrived(path=str(self._path_in(self._folder)))
            shutil.rmtree(self._folder, ignore_errors=True)
            self._staging.mkdir(mode=0o700, exist_ok=True)
            files = self._shipment.files
            missing = tuple((i, self._resume(i)) for i, file in enumerate(files) if not self._has(file))
            needed = bytes_left(self._shipment, missing)
            self._make_room(needed)
            free = shutil.disk_usage(self._staging).free
            if needed > free:
                raise self._no_room(needed, free)
            return Arrived(missing=missing)

    def write(self, index: int, data: bytes) -> None:
        """Add bytes to a file.

        Raises:
            DoesNotFitError: the disk is full; what has arrived is deleted.
        """
        with self._translated(), self._part(index).open("ab") as stream:
            stream.write(data)
        self._digest(index).update(data)

    def finish(self, index: int, digest: str) -> None:
        """A file has arrived. `digest` is the SHA-256 of what was sent.

        Raises:
            EngineLostError: something else has arrived; the file is deleted.
        """
        part, file = self._part(index), self._shipment.files[index]
        with self._translated():
            part.touch()
            whole = part.stat().st_size == file.size and file.digest in ("", digest)
            if not whole or self._digest(index).hexdigest() != digest:
                part.unlink()
                self.leave()
                raise EngineLostError(
                    f"{file.name} of '{self._shipment.model}' has not arrived at node {self._node} as it was sent",
                    hint="load it again; if that does not help, see whether the file is being written here",
                )
            part.rename(self._staging / file.name)

    def close(self) -> str:
        """All files have arrived. Returns the model's path here.

        Raises:
            ModelUnusableError: they are not the model; they are deleted.
        """
        with self._translated():
            try:
                found = content_version(self._path_in(self._staging))
            except LqmfError as error:
                found = error.message
            if found != self._shipment.version:
                shutil.rmtree(self._staging)
                self.leave()
                raise ModelUnusableError(
                    f"the files of '{self._shipment.model}' have changed while they were sent: {found}",
                    hint="load it again when nobody writes them",
                )
            self._staging.rename(self._folder)
            self.use = self._copy.use()
        self.leave()
        return str(self._path_in(self._folder))

    def leave(self) -> None:
        """Release the lock, so others may receive the files. Received data stays."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _make_room(self, missing: int) -> None:
        make_room(self._root, self._copy.key, self._shipment.size, missing, self._limit)

    def _is_whole(self) -> bool:
        """Whether all files are in the cache and right, as far as samples of the weights tell."""
        for file in self._shipment.files:
            place = self._folder / file.name
            if not place.is_file() or place.stat().st_size != file.size:
                return False
            if file.digest and digest_of(place) != file.digest:
                return False
        try:
            return content_version(self._path_in(self._folder)) == self._shipment.version
        except LqmfError:
            return False

    def _has(self, file: ModelFile) -> bool:
        """Whether an earlier try has brought the whole file, which was checked then."""
        done = self._staging / file.name
        return done.is_file() and done.stat().st_size == file.size

    def _resume(self, index: int) -> int:
        """How many bytes of a file an earlier try has left."""
        part = self._part(index)
        if not part.is_file() or part.stat().st_size > self._shipment.files[index].size:
            part.unlink(missing_ok=True)
            return 0
        with part.open("rb") as stream:
            while block := stream.read(_BLOCK):
                self._digest(index).update(block)
            return stream.tell()

    def _digest(self, index: int) -> hashlib._Hash:
        return self._digests.setdefault(index, hashlib.sha256())

    def _part(self, index: int) -> Path:
        return self._staging / f"{self._shipment.files[index].name}.part"

    def _path_in(self, folder: Path) -> Path:
        return folder / self._shipment.main

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of the disk as ours. None of them leaves the lock."""
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            if full:  # while the lock is held: another process would take the folder
                shutil.rmtree(self._staging, ignore_errors=True)
            self.leave()
            if full:
                raise self._no_room(self._shipment.size, 0) from None
            raise EngineLostError(
                f"node {self._node} cannot keep the files of '{self._shipment.model}': {error.strerror}",
                hint="its cache folder must be writable: set XDG_CACHE_HOME there",
            ) from None
        except LqmfError:
            self.leave()
            raise

    def _no_room(self, needed: int, free: int) -> DoesNotFitError:
        left = f"{free / 1e6:.0f} MB" if free else "no room"
        return DoesNotFitError(
            f"the files of '{self._shipment.model}' need {needed / 1e6:.0f} MB more on the disk of node {self._node}, "
            f"which has {left} left",
            hint=_MAKE_ROOM,
        )


def bytes_left(shipment: Shipment, missing: Iterable[tuple[int, int]]) -> int:
    """Bytes that are still to be sent; see `Arrived.missing`."""
    return sum(shipment.files[index].size - there for index, there in missing)
