"""The answer table of a batch: the columns of the input unchanged, and the answers beside them, in the input's
order.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from .answer_sheet import SUFFIX, TooManyRowsError, write_sheet
from .input import BadLine, BatchFile, BatchItem
from .output import OutputError

_ANSWER_COLUMNS = ("answer", "finish_reason", "error")


def write_answer_table(
    path: Path,
    source: BatchFile,
    items: Iterable[BatchItem | BadLine],
    find: Callable[[str], dict[str, Any] | None],
) -> list[str]:
    """Write the table. It replaces an older one as a whole.

    Delimiter, byte order mark and line ends are those of the input, if that is a table; a `.tsv` has tabs, and a
    `.xlsx` is a workbook.

    Args:
        items: all lines of the input.
        find: the line of JSON that answers an item, by its key; None if it has none yet.

    Returns notes on what could not be written as it is.

    Raises:
        OutputError: it cannot be written.
    """
    columns = source.columns()
    header = [*columns, *(_free(name, columns) for name in _ANSWER_COLUMNS)]
    rows = ([*(_cell(item.record.get(name)) for name in columns), *_answer(item, find)] for item in items)
    draft = path.with_name(f".{path.name}.part")
    notes = []
    try:
        with draft.open("wb") as file:
            if path.suffix.lower() == SUFFIX:
                notes = write_sheet(file, source, header, rows)
            else:
                _write_csv(file, _delimiter(path, source), source, header, rows)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise OutputError(
            f"the table {path} cannot be written: {error.strerror or error}",
            hint="make room, or close the program that has it open; then run the same command again",
        ) from None
    except TooManyRowsError as error:
        raise OutputError(
            f"the table {path} cannot be written: {error}", hint="the answers are kept; name a .csv instead"
        ) from None
    finally:
        draft.unlink(missing_ok=True)
    return notes


def _write_csv(
    file: IO[bytes], delimiter: str, source: BatchFile, header: list[str], rows: Iterable[list[str]]
) -> None:
    encoding = "utf-8-sig" if source.text.marked else "utf-8"
    errors = "surrogateescape" if source.text.encoding == "utf-8-sig" else "replace"
    text = io.TextIOWrapper(file, encoding=encoding, errors=errors, newline="")
    table = csv.writer(text, delimiter=delimiter, lineterminator=_line_end(source))
    table.writerow(header)
    table.writerows(rows)
    text.flush()
    text.detach()


def _answer(item: BatchItem | BadLine, find: Callable[[str], dict[str, Any] | None]) -> tuple[str, str, str]:
    if isinstance(item, BadLine):
        return "", "", f"line {item.line}: {item.reason}"
    found = find(item.key) or {}
    return (
        str(found.get("response") or ""),
        str(found.get("finish_reason") or ""),
        str(found.get("error") or ""),
    )


def _delimiter(path: Path, source: BatchFile) -> str:
    if path.suffix.lower() != ".csv":
        return "\t"
    return source.table.delimiter if source.table is not None and source.table.delimiter in ";|" else ","


def _line_end(source: BatchFile) -> str:
    return "\r\n" if "\r\n" in source.text.sample or source.table is None else "\n"


def _free(name: str, columns: list[str]) -> str:
    """The name of a column that the input does not have."""
    number = 2
    free = name
    while free in columns:
        free, number = f"{name}.{number}", number + 1
    return free


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
