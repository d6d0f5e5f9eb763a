"""A table of answers as an XLSX workbook. Texts are never read as formulas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import IO, TYPE_CHECKING, Any

from ...errors import MissingDependencyError
from ...install import install_line
from .workbook import cell_text, read_cells

if TYPE_CHECKING:
    from .input import BatchFile

SUFFIX = ".xlsx"
_MOST_ROWS = 1_048_576
_LONGEST_CELL = 32_767  # in UTF-16 units
_CUT = " … (cut: a cell holds no more)"
_MOST_DIGITS = 11  # a longer number is shown as 1.23E+11, and loses digits from the 16th on
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_LIKE_AN_ESCAPE = re.compile("_(?=x[0-9A-Fa-f]{4}_)")
_ANSWER_WIDTH = 60


class TooManyRowsError(ValueError):
    """There are more rows than a sheet can hold."""


def require_openpyxl() -> None:
    """Check that openpyxl is installed, before anything is answered.

    Raises:
        MissingDependencyError: openpyxl is not installed.
    """
    try:
        import openpyxl  # noqa: F401
    except ImportError:
        raise MissingDependencyError(
            "writing XLSX needs the package openpyxl",
            hint=f"{install_line()}; or name an output that ends in .csv",
        ) from None


def write_sheet(
    file: IO[bytes], source: BatchFile, header: Sequence[str], rows: Iterable[Sequence[str]]
) -> list[str]:
    """Write a workbook with one sheet. Cells of an input that is a workbook keep their type and number format.

    Args:
        rows: cells of the input, as many as it has columns, and then the answer. All are texts.

    Returns notes on what could not be written as it is.

    Raises:
        OSError: it cannot be written.
        TooManyRowsError: a sheet has fewer rows.
    """
    import openpyxl
    from openpyxl.utils import get_column_letter

    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet(source.text.sheet.title if source.text.sheet else "answers")
    sheet.freeze_panes = "A2"
    columns = len(source.columns())
    sheet.column_dimensions[get_column_letter(columns + 1)].width = _ANSWER_WIDTH
    sheet.append([_text(sheet, name) for name in header])
    long = 0
    for number, (row, originals) in enumerate(zip(rows, _originals(source), strict=False), 2):
        if number > _MOST_ROWS:
            raise TooManyRowsError(f"a sheet has at most {_MOST_ROWS:,} rows")
        long += sum(_length(cell) > _LONGEST_CELL for cell in row)
        own = [
            _input_cell(sheet, text, originals[at] if at < len(originals) else None)
            for at, text in enumerate(row[:columns])
        ]
        sheet.append([*own, *(_text(sheet, text) for text in row[columns:])])
    book.save(file)
    whole = "answers as JSONL have all of it"
    return [f"texts cut to the {_LONGEST_CELL:,} characters of a cell: {long:,}; {whole}"] if long else []


def _originals(source: BatchFile) -> Iterator[Sequence[Any]]:
    """The cells of the rows below the header, if the input is a workbook; else no cells for each row."""
    if source.text.sheet is None:
        yield from repeat(())
        return
    rows = read_cells(source.path, source.text.sheet.title)
    next(rows, None)
    yield from rows
    yield from repeat(())


def _input_cell(sheet: Any, text: str, original: Any) -> Any:
    """A cell as it was in the workbook, or else a number where the text is just how that number is written."""
    from openpyxl.cell import WriteOnlyCell

    if original is not None and not isinstance(original.value, str) and cell_text(original.value) == text:
        cell = WriteOnlyCell(sheet, original.value)
        cell.number_format = original.number_format
        return cell
    from_workbook = original is not None
    return (
        _text(sheet, text) if from_workbook or not _is_number(text) else WriteOnlyCell(sheet, _number(text))
    )


def _is_number(text: str) -> bool:
    return len(text) <= _MOST_DIGITS and bool(_NUMBER.fullmatch(text)) and str(_number(text)) == text


def _number(text: str) -> int | float:
    return float(text) if "." in text else int(text)


def _text(sheet: Any, text: str) -> Any:
    from openpyxl.cell import WriteOnlyCell

    if _length(text) > _LONGEST_CELL:
        kept = text.encode("utf-16-le", "surrogatepass")[: 2 * (_LONGEST_CELL - len(_CUT))]
        text = kept.decode("utf-16-le", "ignore") + _CUT
    cell = WriteOnlyCell(sheet, _LIKE_AN_ESCAPE.sub("_x005F_", _FORBIDDEN.sub("\ufffd", text)))
    cell.data_type = "s"  # even if its first character is that of a formula
    return cell


def _length(text: str) -> int:
    """In UTF-16 units."""
    return len(text) + sum(map("\uffff".__lt__, text)) if len(text) > _LONGEST_CELL // 2 else len(text)
