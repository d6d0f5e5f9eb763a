"""Excel workbooks (XLSX): the sheet that has rows, as CSV text that is read like any other table."""

from __future__ import annotations

import csv
import datetime
import io
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ...errors import MissingDependencyError, UserInputError
from ...install import install_line

_BOOK = "xl/workbook.xml"
_ESCAPED_CONTROL = re.compile("_x(00[01][0-9A-Fa-f])_")  # "_x000D_" is a carriage return
_LARGEST = 1 << 30  # bytes unpacked: no sheet made by a person is larger


@dataclass(frozen=True)
class SheetText:
    """A sheet as CSV in UTF-8, in a temporary file that goes with this object. `notes` say what was left out."""

    file: IO[bytes]
    title: str
    notes: tuple[str, ...]


def is_workbook(path: Path) -> bool:
    """Whether the file is an XLSX workbook."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _BOOK in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def read_workbook(path: Path) -> SheetText:
    """The first visible sheet that has rows. Formulas are the values that were last computed for them.

    Raises:
        UserInputError: it is damaged, too large, or has no rows.
        MissingDependencyError: openpyxl is not installed.
    """
    try:
        import openpyxl
    except ImportError:
        raise MissingDependencyError(
            "reading XLSX needs the package openpyxl", hint=f"{install_line()}; or save the sheet as CSV"
        ) from None
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > _LARGEST:
            raise UserInputError(f"{path} is too large once unpacked", hint="save the sheet as CSV")
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheets = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
        for sheet in sheets:
            sheet.reset_dimensions()  # many programs write a wrong size, and rows beyond it would be missing
            text = _as_csv(sheet.iter_rows(values_only=True))
            if text is not None:
                others = [other.title for other in sheets if other is not sheet]
                shown = f"the sheet '{sheet.title}' is read, and not {', '.join(map(repr, others))}"
                return SheetText(text, sheet.title, (shown,) if others else ())
    except UserInputError:
        raise
    except Exception as error:  # openpyxl does not translate errors of its parsers
        raise UserInputError(
            f"the workbook {path} cannot be read: {type(error).__name__}: {error}",
            hint="open it in a spreadsheet and save it again, as XLSX or as CSV UTF-8",
        ) from error
    raise UserInputError(f"the workbook {path} has no rows", hint="its first row must name the columns")


def read_cells(path: Path, title: str) -> Iterator[Sequence[Any]]:
    """The cells of the rows that are not blank, of the sheet of that name; the first is the header.

    A cell has a `value` and a `number_format`.
    """
    import openpyxl

    sheet = openpyxl.load_workbook(path, read_only=True, data_only=True)[title]
    sheet.reset_dimensions()
    for row in sheet.iter_rows():
        if any(cell_text(cell.value).strip() for cell in row):
            yield row


def _as_csv(rows: Iterable[tuple[Any, ...]]) -> IO[bytes] | None:
    """The rows as CSV with a byte order mark; None if all are blank. Blank rows at the end are left out."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as what is returned)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="", errors="surrogatepass")
    table = csv.writer(text, quoting=csv.QUOTE_ALL)
    for row in _without_blank_end(rows):
        table.writerow(row)
    text.flush()
    size = file.tell()
    text.detach()
    return file if size else None


def _without_blank_end(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[str]]:
    blank = 0
    for row in rows:
        cells = [cell_text(value) for value in row]
        while cells and not cells[-1]:
            cells.pop()
        if not cells:
            blank += 1
            continue
        yield from ([] for _ in range(blank))
        blank = 0
        yield cells


def cell_text(value: Any) -> str:
    """A value roughly as the sheet shows it: whole numbers without a fraction, days without a time."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ")
    return _ESCAPED_CONTROL.sub(lambda found: chr(int(found[1], 16)), str(value))
