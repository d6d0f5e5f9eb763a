"""Tables in text: CSV with any of the usual delimiters, recognised from their content and their suffix."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ...errors import UserInputError
from .columns import AS_TEXT, find_name, is_prompt_word
from .lines import BadLineError
from .text_file import TextFile

SUFFIXES = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
"""Names of files that are tables, and the usual delimiter."""
_DELIMITERS = ",;\t|"
_NO_DELIMITER = "\x1f"  # of a table with one column, whose cells may have any other sign
_LONGEST_CELL = 1 << 24
_SAMPLE_ROWS = 100
_LONGEST_HEADER = 60
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?')  # Excel reads and writes it before the header
_RULE = re.compile(r"\s*:?-{2,}:?\s*")


@dataclass(frozen=True)
class Table:
    """How a table is read.

    Attributes:
        header: names of its columns; each is there once.
        unnamed: those that have no name in the file.
        spaced: blanks after a delimiter do not belong to the cell.
        announced: a line before the header names the delimiter.
        body: the first of its rows, without the header.
        regular: share of them that has as many cells as the header.
    """

    delimiter: str
    header: tuple[str, ...]
    unnamed: frozenset[str] = frozenset()
    spaced: bool = False
    announced: bool = False
    body: tuple[Sequence[str], ...] = field(default=(), repr=False)
    regular: float = 1.0

    def read(self, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any] | BadLineError]]:
        """The number of the first line of each row, and its cells by the names of their columns."""
        rows = _rows(lines, self.delimiter, spaced=self.spaced, announced=self.announced)
        next(rows, None)
        for number, row in rows:
            if isinstance(row, BadLineError):
                yield number, row
            elif any(cell.strip() for cell in row[len(self.header) :]):
                reason = f"it has {len(row)} cells, the header {len(self.header)}"
                yield number, BadLineError(reason, dict(zip(self.header, row, strict=False)))
            else:
                yield number, dict(zip(self.header, row, strict=False))

    def column(self, index: int) -> list[str]:
        """The first cells of a column."""
        return [row[index] for row in self.body if index < len(row)]


def recognise_table(file: TextFile, asked: str | None, *, sure: bool) -> tuple[Table | None, str | None]:
    """The table that a file is, or None for plain text, and a note where that is not certain.

    Args:
        asked: name of the column that is asked for.
        sure: it is a table, whatever it looks like. Otherwise the suffix says so, or the header, or the same number of
            cells in every row.

    Raises:
        UserInputError: it is a table without a header, or one that cannot be read.
    """
    sure = sure or file.path.suffix.lower() in SUFFIXES
    usual = SUFFIXES.get(file.path.suffix.lower(), ",")
    separator = _separator(file.sample)
    read = [_reading(file, delimiter) for delimiter in ([separator] if separator else _DELIMITERS)]
    tables = [table for table in read if table is not None and len(table.header) > 1]

    def names_prompt(table: Table) -> bool:
        if asked is not None:
            return find_name(table.header, asked) is not None
        return any(map(is_prompt_word, table.header))

    tables.sort(key=lambda t: (names_prompt(t), t.regular, t.delimiter == usual, len(t.header)), reverse=True)
    best = tables[0] if tables else None
    if best is not None and best.delimiter == "|" and _is_markdown(best):
        raise UserInputError(f"{file.path} is a table in Markdown", hint="save it as CSV")
    if best is None and (one := _reading(file, _NO_DELIMITER)) is not None and (sure or names_prompt(one)):
        best = one
    if (
        best is not None
        and file.whole
        and not best.body
        and best.regular == 1.0
        and (sure or names_prompt(best))
    ):
        raise UserInputError(f"{file.path} has a header, and no rows", hint=AS_TEXT)
    if best is None:
        if sure:
            raise UserInputError(f"{file.path} has no header that can be read", hint=AS_TEXT)
        return None, None
    if names_prompt(best):
        return best, None
    regular = best.regular == 1.0 and len(best.body) > 0
    apart = best.delimiter != "\t" and best.spaced  # as after a comma in a sentence
    if sure or separator or (regular and (best.delimiter == "\t" or (_is_header(best) and not apart))):
        if asked is None and not _is_header(best):
            raise UserInputError(
                f"the first line of {file.path} does not look like a header: {', '.join(best.header)[:80]}",
                hint=f"name the column with mode.prompt_field=, or write a header above it; {AS_TEXT}",
            )
        return best, None
    note = f"every line of {file.path.name} is a prompt; if it is a table, say mode.input_format=csv"
    return None, note if regular and len(best.body) > 1 else None


def _separator(sample: str) -> str | None:
    found = _SEPARATOR_LINE.fullmatch(re.split("[\r\n]", sample, maxsplit=1)[0])
    return found[1] if found else None


def _reading(file: TextFile, delimiter: str) -> Table | None:
    """The beginning of the file with this delimiter, or None if its first line cannot be a header."""
    announced = _separator(file.sample) is not None

    lines = [line + file.newline for line in file.sample.split(file.newline)]
    first = next(_rows(lines, delimiter, announced=announced), None)
    if first is None or isinstance(first[1], BadLineError):
        return None
    spaced = any(name.startswith(" ") for name in first[1][1:])
    found = list(islice(_rows(lines, delimiter, spaced=spaced, announced=announced), 1, _SAMPLE_ROWS))
    if not file.whole and len(found) < _SAMPLE_ROWS - 1:
        found = found[:-1]  # it may be cut
    rows = [row for _, row in found if not isinstance(row, BadLineError)]
    header = first[1]
    while len(header) > 1 and not header[-1].strip() and not any(_cells(rows, len(header) - 1)):
        header = header[:-1]  # a delimiter at the end of every line
    fitting = sum(len(_without_blanks(row, len(header))) == len(header) for row in rows)
    regular = fitting / len(found) if found else 1.0
    names = _unique(header)
    unnamed = frozenset(name for name, cell in zip(names, header, strict=True) if not cell.strip())
    return Table(delimiter, names, unnamed, spaced, announced, tuple(rows), regular)


def _cells(rows: Sequence[Sequence[str]], index: int) -> list[str]:
    return [row[index].strip() for row in rows if index < len(row)]


def _without_blanks(row: list[str], columns: int) -> list[str]:
    return row if any(cell.strip() for cell in row[columns:]) else row[:columns]


def _unique(header: Sequence[str]) -> tuple[str, ...]:
    """Names for all columns. A second one of the same name gets a number, one without a name its position."""
    counts = Counter[str]()
    names = []
    for position, cell in enumerate(header, 1):
        name = cell.strip().strip("\ufeff") or f"column {position}"
        counts[name] += 1
        names.append(name if counts[name] == 1 else f"{name}.{counts[name]}")
    return tuple(names)


def _rows(
    lines: Iterable[str], delimiter: str, *, spaced: bool = False, announced: bool = False
) -> Iterator[tuple[int, list[str] | BadLineError]]:
    """Rows that are not blank, the header among them, and the numbers of their first lines."""
    csv.field_size_limit(_LONGEST_CELL)
    rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=spaced, strict=True)
    while True:
        number = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, BadLineError(_explained(error))
            continue
        if announced:
            announced = False
        elif any(cell.strip() for cell in row):
            yield number, row


def _explained(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "it is not CSV: a quotation mark is opened there and never closed"
    if "expected after" in str(error):
        return (
            "it is not CSV: quotation marks within a cell must be doubled, and the cell be in quotation marks"
        )
    if "new-line character" in str(error):
        return "it is not CSV: a carriage return stands in it without quotation marks"
    return f"it is not CSV: {error}"


def _is_header(table: Table) -> bool:
    """Whether the first line has names: short, without numbers and questions."""
    return all(map(_is_name, table.header))


def _is_name(cell: str) -> bool:
    if len(cell) > _LONGEST_HEADER or not any(map(str.isalpha, cell)):
        return cell in ("#", "№", "%")
    return not cell.endswith(("?", "!", "？", "！")) and not (cell.endswith(".") and len(cell.split()) > 2)


def _is_markdown(table: Table) -> bool:
    return bool(table.body) and all(_RULE.fullmatch(cell) for cell in table.body[0] if cell.strip())
