"""Writes `requests.jsonl` and `judgements.jsonl`: one line per record, on disk at once."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from ..files import REQUESTS
from ..schema import Judgement, RequestRecord
from .line_file import LineFile


class RequestLog:
    """Appends records to a file of the run's folder. A disk that is full does not stop the run.

    Lines that could not be written are kept in memory and tried again with each further record and at the end; the
    file on disk holds whole lines only. `problem` says what is wrong while some lines are not yet on disk.
    """

    def __init__(self, folder: Path, name: str = REQUESTS) -> None:
        self.path = folder / name
        self.problem: OSError | None = None
        self._encoder = msgspec.json.Encoder()
        self._file: LineFile | None = None
        self._waiting: list[bytes] = []

    def write(self, record: RequestRecord | Judgement) -> None:
        """Add one record. Never raises for a disk's sake."""
        self._waiting.append(self._encoder.encode(record) + b"\n")
        self.flush()

    def flush(self) -> None:
        """Try to bring all lines to disk; see `problem` for the outcome."""
        try:
            if self._file is None:
                self._file = LineFile(self.path)
            while self._waiting:
                self._file.append(self._waiting[0])
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
