"""The reference's distributions on disk, so a reference model runs once for a text and not once for a run.

An entry is a folder under a digest of all that decides its content. It is written under another name and renamed when
it is whole and synced, so that a killed run leaves nothing that is taken for an entry; its remains are recognised by a
lock that died with it, and removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ...errors import LqmfError, UserInputError
from .windows import PositionScores, WindowProtocol

T = TypeVar("T")
_LAYOUT = 3
_DIGEST = 20
_DRAFT = ".draft-"
_CODE_BYTES = 2


class ReferenceKey(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that determines the result of a reference pass.

    Attributes:
        model: content version of the weights.
        tokenizer: digest of the tokenizer and the chat template.
        settings: of the backend, those that change its numbers (dtype, device, ...).
        text: digest of the evaluation text.
        max_tokens: most tokens of it that are used.
        size, first: the window protocol.
    """

    model: str
    tokenizer: str
    settings: dict[str, Any]
    text: str
    max_tokens: int
    size: int
    first: int
    layout: int = _LAYOUT

    @property
    def digest(self) -> str:
        """Name of the entry."""
        encoded = msgspec.json.encode(self, order="deterministic")
        return hashlib.sha256(encoded).hexdigest()[:_DIGEST]


class ReferenceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The description of an entry: its key, and the properties of the model that were known after the load.

    `bos` begins each window. The key has it by `model` and `tokenizer`.
    """

    key: ReferenceKey
    name: str
    method: str
    dtype: str
    n_vocab: int
    chat_template: bool
    bos: int | None = None


class StoredReference:
    """A complete entry.

    Attributes:
        record: what it is.
        tokens: of the evaluation text, as many as the windows hold.
        scores: of the reference itself.
        rows: the file of its distributions.
    """

    def __init__(
        self, folder: Path, record: ReferenceRecord, tokens: list[int], scores: PositionScores
    ) -> None:
        self._folder = folder
        self.record = record
        self.tokens = tokens
        self.scores = scores
        self.rows = folder / "rows.bin"
        self.protocol = WindowProtocol(record.key.size, record.key.first, record.bos)

    @property
    def windows(self) -> list[list[int]]:
        """The windows of its tokens."""
        return self.protocol.cut(self.tokens)

    def recall(self, name: str, kind: type[T]) -> T | None:
        """Further data about this reference, stored with `keep`."""
        try:
            return msgspec.json.decode((self._folder / f"{name}.json").read_bytes(), type=kind)
        except (OSError, msgspec.DecodeError):
            return None

    def keep(self, name: str, value: Any) -> None:
        """Store further data with the entry. A failure to do so is harmless."""
        with contextlib.suppress(OSError):
            draft = self._folder / f".{name}.{os.getpid()}"
            draft.write_bytes(msgspec.json.encode(value))
            draft.replace(self._folder / f"{name}.json")


class ReferenceDraft:
    """An entry while it is written. `rows` is the file for the worker, as large as it will be."""

    def __init__(self, folder: Path, key: ReferenceKey) -> None:
        self._folder = folder
        self._key = key
        self.rows = folder / "rows.bin"

    def allocate(self, n_windows: int, n_vocab: int) -> None:
        """Reserve the disk space of all rows.

        Raises:
            LqmfError: the disk is too full; with the numbers.
        """
        size = rows_size(self._key, n_windows, n_vocab)
        try:
            with self.rows.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            free = shutil.disk_usage(self._folder).free
            raise LqmfError(
                f"the reference's distributions take {size / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free "
                f"({error.strerror})",
                hint="lower fidelity.max_tokens, or set fidelity.cache_dir to a folder on a larger disk",
            ) from error

    def finish(self, record: ReferenceRecord, tokens: list[int], scores: PositionScores) -> None:
        """Write the rest and sync all of it. The entry can then be renamed."""
        assert record.key == self._key
        arrays: dict[str, NDArray[Any]] = {
            "tokens": np.array(tokens, np.int32),
            "nll": scores.nll,
            "top": scores.top,
        }
        np.savez(self._folder / "scores.npz", **arrays)  # type: ignore[arg-type]
        (self._folder / "reference.json").write_bytes(msgspec.json.encode(record))
        for path in (*self._folder.iterdir(), self._folder):
            file = os.open(path, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)


class ReferenceStore:
    """All entries: the folder `fidelity.cache_dir`."""

    def __init__(self, folder: Path) -> None:
        self._root = folder.absolute()

    def find(self, key: ReferenceKey) -> StoredReference | None:
        """The entry of a key. None if there is none, or if it is damaged."""
        folder = self._root / key.digest
        try:
            record = msgspec.json.decode((folder / "reference.json").read_bytes(), type=ReferenceRecord)
            with np.load(folder / "scores.npz", allow_pickle=False) as arrays:
                tokens, scores = arrays["tokens"].tolist(), PositionScores(arrays["nll"], arrays["top"])
            size = (folder / "rows.bin").stat().st_size
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, msgspec.DecodeError):
            return None
        if record.key != key or size != rows_size(key, len(scores.nll), record.n_vocab):
            return None
        return StoredReference(folder, record, tokens, scores)

    @contextlib.contextmanager
    def draft(self, key: ReferenceKey) -> Iterator[ReferenceDraft]:
        """Write an entry; it gets its name when the block ends without an error.

        Raises:
            UserInputError: the folder cannot be written to.
        """
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._remove_remains()
            folder = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=self._root))
            lock = os.open(folder, os.O_RDONLY)
        except OSError as error:
            raise UserInputError(
                f"the folder {self._root} for reference distributions cannot be written to: {error.strerror}",
                hint="set fidelity.cache_dir to another folder",
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield ReferenceDraft(folder, key)
            if self.find(key) is None:  # otherwise another run was faster, and may be reading its entry
                self._publish(folder, self._root / key.digest)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)

    def _publish(self, folder: Path, place: Path) -> None:
        """Rename an entry to its final name; a damaged entry of that name is removed."""
        try:
            folder.rename(place)
        except OSError:
            shutil.rmtree(place, ignore_errors=True)
            folder.rename(place)

    def _remove_remains(self) -> None:
        for folder in self._root.glob(f"{_DRAFT}*"):
            with contextlib.suppress(OSError):
                lock = os.open(folder, os.O_RDONLY)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(lock)


def rows_size(key: ReferenceKey, n_windows: int, n_vocab: int) -> int:
    """Bytes of the distributions of all scored positions."""
    return n_windows * (key.size - key.first) * n_vocab * _CODE_BYTES
