"""`requests.jsonl`: one line a request, on disk as soon as the request has ended."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from .results import RequestRecord


class RequestLog:
    """Appends records to `requests.jsonl`. A disk that is full does not stop the run.

    Lines that could not be written are kept in memory and tried again with each further record and at the end; the
    file on disk holds whole lines only. `problem` says what is wrong while some lines are not yet on disk.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "requests.jsonl"
        self.problem: OSError | None = None
        self._encoder = msgspec.json.Encoder()
        self._file: BinaryIO | None = None
        self._waiting: list[bytes] = []
        self._size = 0

    def write(self, record: RequestRecord) -> None:
        """Add one record. Never raises for a disk's sake."""
        self._waiting.append(self._encoder.encode(record) + b"\n")
        self.flush()

    def flush(self) -> None:
        """Try to bring all lines to disk; see `problem` for the outcome."""
        try:
            if self._file is None:
                self._file = self.path.open("ab", buffering=0)
                self._size = self._file.seek(0, 2)
            while self._waiting:
                self._append(self._file, self._waiting[0])
                del self._waiting[0]
            self.problem = None
        except OSError as error:
            self.problem = error

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, file: BinaryIO, line: bytes) -> None:
        """Write a whole line or none of it."""
        written = file.write(line)
        if written != len(line):
            file.truncate(self._size)
            file.seek(self._size)
            file.write(line[written:])  # nothing fits: raises the disk's own error
            file.truncate(self._size)
            raise OSError(f"only {written} of {len(line)} bytes fit on the disk")
        self._size += written
