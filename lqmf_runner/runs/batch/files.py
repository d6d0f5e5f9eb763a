"""Which files a batch reads and writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...config import BatchMode
from ...errors import UserInputError
from .answer_sheet import SUFFIX, require_openpyxl
from .columns import ColumnNotClearError
from .input import CSV, OPENAI, BatchFile, open_batch

AskColumn = Callable[[ColumnNotClearError], str]

_TEXT_TABLES = (".csv", ".tsv", ".tab")
_TABLES = (*_TEXT_TABLES, SUFFIX)
_OTHER_FORMATS = (".xls", ".ods", ".parquet")


@dataclass(frozen=True)
class BatchFiles:
    """The files of a batch.

    Attributes:
        answers: the answers as lines of JSON, which a later run continues.
        table: a table of the input and its answers, made of them at the end of a run.
    """

    source: BatchFile
    answers: Path
    table: Path | None = None

    @property
    def result(self) -> Path:
        """The file that the user asked for."""
        return self.table or self.answers


def choose_files(mode: BatchMode, ask: AskColumn | None = None) -> BatchFiles:
    """The files that the settings name. If no output is named, the answers to a table are a table.

    Args:
        ask: asks somebody which column has the prompts, where that is not clear.

    Raises:
        UserInputError: the input is missing, empty, not text or not clear, or the output may not be written.
    """
    assert mode.input
    path = Path(mode.input).expanduser()
    try:
        source = open_batch(path, mode.prompt_field, mode.input_format)
    except ColumnNotClearError as error:
        if ask is None:
            raise
        source = open_batch(path, ask(error), mode.input_format)
    lines = source.path.with_suffix(".answers.jsonl")
    chosen = Path(mode.output).expanduser() if mode.output else lines
    if not mode.output and source.format == CSV:
        usual = source.path.suffix if source.path.suffix.lower() in _TEXT_TABLES else ".csv"
        chosen = source.path.with_suffix(f".answers{usual}")
    suffix = chosen.suffix.lower()
    if suffix in _OTHER_FORMATS:
        raise UserInputError(
            f"mode.output={chosen}: answers are JSONL, CSV or XLSX", hint="say out.jsonl, out.csv or out.xlsx"
        )
    if suffix not in _TABLES:
        _check(chosen, source.path)
        return BatchFiles(source, chosen)
    if source.format == OPENAI:
        raise UserInputError(
            f"mode.output={chosen}: answers to OpenAI's batch format are in that format", hint="say out.jsonl"
        )
    if suffix == SUFFIX:
        require_openpyxl()
    answers = chosen.with_suffix(".answers.jsonl") if mode.output else lines
    for path in (chosen, answers):
        _check(path, source.path)
    if chosen.exists() and not (answers.exists() and answers.stat().st_size):
        raise UserInputError(
            f"{chosen} exists, and is not the output of a batch that {answers.name} belongs to",
            hint="choose another mode.output=, or remove the file",
        )
    return BatchFiles(source, answers, chosen)


def _check(path: Path, source: Path) -> None:
    if path.is_dir():
        raise UserInputError(f"mode.output={path} is a folder", hint="name a file in it")
    if path.exists() and path.samefile(source):
        raise UserInputError(f"{path} is input and output at once", hint="choose another mode.output=")
