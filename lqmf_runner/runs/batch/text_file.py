"""A text file as users save it: its encoding, its line ends, and files that are not text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ...errors import UserInputError
from .workbook import SheetText, is_workbook, read_workbook

FORMATS_HINT = (
    "give it JSONL, CSV or XLSX with a header, text with one prompt a line, or OpenAI's batch format, "
    "all text in UTF-8"
)
_SAMPLE = 1 << 16
_LONGEST_LINE = 1 << 26
_UTF_16 = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_AS_CSV = "open it in a spreadsheet and save it as CSV UTF-8"
# The first bytes of files that are often mistaken for text, their type, and what to do about it.
_OTHER_FILES = (
    (b"PK\x03\x04", "a workbook (ODS) or another zip archive", _AS_CSV),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", _AS_CSV),
    (b"PAR1", "a Parquet file", "convert it: pandas.read_parquet(...).to_json(..., orient='records', lines=True)"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it: gunzip -k"),
    (b"BZh", "compressed with bzip2", "unpack it: bunzip2 -k"),
    (b"\xfd7zXZ\x00", "compressed with xz", "unpack it: unxz -k"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it: unzstd"),
    (b"%PDF", "a PDF", "copy its text into a file"),
    (b"{\\rtf", "a rich text file", "save it as plain text"),
    (b"SQLite format 3", "a SQLite database", "export a table as CSV"),
)  # fmt: skip
_QUOTED = re.compile(r'"(?:[^"]|"")*(?:"|\Z)')


@dataclass(frozen=True)
class TextFile:
    """A text file that can be read again and again.

    Attributes:
        encoding: a codec's name.
        newline: what ends its lines: line feed (with or without a carriage return before it) or carriage return.
        marked: it begins with a byte order mark.
        sample: its beginning, about 64 KB of whole lines.
        whole: that is all of it.
        sheet: its text, if the file is a workbook.
    """

    path: Path
    encoding: str
    newline: str
    marked: bool
    sample: str
    whole: bool
    sheet: SheetText | None = None

    def open(self) -> TextIO:
        """Open it to read lines. Invalid bytes become surrogates, which no request can have."""
        return _open(_source(self.path, self.sheet), self.encoding, self.newline)


def open_text(path: Path) -> TextFile:
    """Find out how a file is to be read.

    Raises:
        UserInputError: it cannot be read, cannot be read twice, or is not text.
    """
    if path.is_fifo():
        raise UserInputError(
            f"the batch file {path} is a pipe, and it is read more than once",
            hint="save it to a file, and name that",
        )
    sheet = read_workbook(path) if is_workbook(path) else None
    source = _source(path, sheet)
    try:
        with source.open("rb") as file:
            head = file.read(_SAMPLE)
        encoding = _encoding(path, head)
        with _open(source, encoding, "") as text:
            sample = text.read(_SAMPLE) + text.readline(_LONGEST_LINE)
            whole = not text.read(1)
    except OSError as error:
        raise UserInputError(
            f"the batch file {path} cannot be read: {error.strerror}", hint="correct its path (mode.input)"
        ) from None
    except UnicodeError:
        raise UserInputError(f"the batch file {path} is not text in UTF-16", hint=FORMATS_HINT) from None
    lines = sample.split("\n")
    if "\0" in sample:
        raise UserInputError(f"the batch file {path} is not text in UTF-8", hint=FORMATS_HINT)
    if sum(map(_is_binary, lines)) > len(lines) / 2:
        raise UserInputError(
            f"the batch file {path} is not text in UTF-8",
            hint=f"save it as CSV UTF-8, or convert it: iconv -f WINDOWS-1252 -t UTF-8; or else {FORMATS_HINT}",
        )
    marked = head.startswith((b"\xef\xbb\xbf", *(mark for mark, _ in _UTF_16)))
    return TextFile(path, encoding, _line_end(sample), marked, sample, whole, sheet)


def _source(path: Path, sheet: SheetText | None) -> Path:
    """Where the text is read: each opening of a descriptor's name begins at its start."""
    return Path(f"/proc/self/fd/{sheet.file.fileno()}") if sheet is not None else path


def _open(path: Path, encoding: str, newline: str) -> TextIO:
    errors = "surrogateescape" if encoding == "utf-8-sig" else "surrogatepass"
    return path.open(encoding=encoding, errors=errors, newline=newline)


def _encoding(path: Path, head: bytes) -> str:
    """UTF-8, or UTF-16 as spreadsheets write it ("Unicode text").

    Raises:
        UserInputError: the bytes are those of another kind of file.
    """
    for magic, what, hint in _OTHER_FILES:
        if head.startswith(magic):
            raise UserInputError(f"the batch file {path} is not text: it is {what}", hint=hint)
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        raise UserInputError(f"the batch file {path} is text in UTF-32", hint="save it in UTF-8")
    for mark, encoding in _UTF_16:
        if head.startswith(mark):
            return encoding
    # Without a mark: in Latin text every second byte is zero.
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if min(even, odd) == 0 and max(even, odd) > len(head) / 6:
        return "utf-16-be" if even else "utf-16-le"
    return "utf-8-sig"


def _line_end(sample: str) -> str:
    """A carriage return if no line ends otherwise, as on old Macs. Cells in quotes may contain line feeds."""
    if "\r" not in sample or "\n" not in sample:
        return "\r" if "\r" in sample else "\n"
    bare = _QUOTED.sub("", sample)
    return "\r" if "\r" in bare and "\n" not in bare else "\n"


def _is_binary(line: str) -> bool:
    try:
        line.encode()
    except UnicodeEncodeError:
        return True
    return False
