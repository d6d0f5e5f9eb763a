"""A file of lines. A reader sees only whole lines, also after a crash or on a full disk."""

from __future__ import annotations

from pathlib import Path


class LineFile:
    """Appends lines, unbuffered, so that they outlive the process."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._size = self._file.seek(0, 2)

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._file.fileno()

    def append(self, line: bytes) -> None:
        """Write a whole line (with its line feed) or none of it.

        Raises:
            OSError: the disk is full or gone.
        """
        written = self._file.write(line)
        if written != len(line):
            self._file.truncate(self._size)
            self._file.seek(self._size)
            self._file.write(line[written:])  # nothing fits: raises the disk's own error
            self._file.truncate(self._size)
            raise OSError(f"only {written} of {len(line)} bytes fit on the disk")
        self._size += written

    def close(self) -> None:
        """Close it; what was appended is there."""
        self._file.close()
