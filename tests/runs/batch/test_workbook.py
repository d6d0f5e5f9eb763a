"""XLSX workbooks as people make them."""

from __future__ import annotations

import csv
import datetime
import zipfile
from pathlib import Path

import openpyxl
import pytest

from lqmf_runner.errors import UserInputError
from lqmf_runner.runs.batch import workbook
from lqmf_runner.runs.batch.input import open_batch
from tests.support.engine.scripted import Say
from tests.support.runs.batch import Batch, prompt_of

ROWS = [
    ["Nr", "Question", "Since", "Share", "Paid"],
    [1, "How, much;\nis it?", datetime.datetime(2026, 1, 31), 0.5, True],
    [2.0, 'say "hi"', datetime.datetime(2026, 1, 31, 7, 30), 3.0, None],
    [],
    [4, "wer?", None, None, None],
]


def make(path: Path, *sheets: list[list[object]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets):
        sheet = book.create_sheet(f"sheet {number}")
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_a_sheet_comes_back_with_its_answers(batch: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    batch.input = make(batch.folder / "sheet.xlsx", [], ROWS, [["other"]])
    assert batch.run() == 0
    shown = capsys.readouterr()
    assert "the sheet 'sheet 1' is read, and not 'sheet 0', 'sheet 2'" in shown.err
    assert "sheet.xlsx (xlsx, " in shown.err
    with (batch.folder / "sheet.answers.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["Nr", "Question", "Since", "Share", "Paid", "answer", "finish_reason", "error"],
        ["1", "How, much;\nis it?", "2026-01-31", "0.5", "TRUE", "you said How, much;\nis it?", "stop", ""],
        ["2", 'say "hi"', "2026-01-31 07:30:00", "3", "", 'you said say "hi"', "stop", ""],
        ["4", "wer?", "", "", "", "you said wer?", "stop", ""],
    ]
    assert batch.run() == 0
    assert batch.engines[1:] == []  # all were answered before


def read(path: Path) -> list[list[tuple[object, str]]]:
    """Values and number formats of the first sheet."""
    sheet = openpyxl.load_workbook(path).worksheets[0]
    return [[(cell.value, cell.number_format) for cell in row] for row in sheet.iter_rows()]


def test_a_workbook_comes_back_as_a_workbook_with_its_dates_and_numbers(batch: Batch) -> None:
    batch.input = make(batch.folder / "sheet.xlsx", [], ROWS)
    book = openpyxl.load_workbook(batch.input)
    book["sheet 1"]["D2"].number_format = "0%"
    book.save(batch.input)
    batch.settings["output"] = str(batch.folder / "out.xlsx")
    assert batch.run() == 0
    head, *rows = read(batch.folder / "out.xlsx")
    assert [value for value, _ in head] == [*ROWS[0], "answer", "finish_reason", "error"]
    assert rows[0][:5] == [
        (1, "General"), ("How, much;\nis it?", "General"),
        (datetime.datetime(2026, 1, 31), "yyyy-mm-dd h:mm:ss"), (0.5, "0%"), (True, "General"),
    ]  # fmt: skip
    assert [[value for value, _ in row[:6]] for row in rows[1:]] == [
        [2, 'say "hi"', datetime.datetime(2026, 1, 31, 7, 30), 3, None, 'you said say "hi"'],
        [4, "wer?", None, None, None, "you said wer?"],
    ]
    assert openpyxl.load_workbook(batch.folder / "out.xlsx").sheetnames == ["sheet 1"]


def test_what_a_model_writes_into_a_workbook_is_text(
    batch: Batch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {"a": "=1+1", "b": "bell\a _x0041_", "c": "é" * 40_000, "d": "#N/A"}
    batch.script = lambda _, request: [Say(0.0, said[prompt_of(request)])]
    batch.input = batch.folder / "q.csv"
    batch.input.write_text("id,price,prompt\n007,12,a\n49151234567890,0.5,b\n1.50,1e5,c\n-3,,d\n")
    batch.settings["output"] = str(batch.folder / "out.xlsx")
    assert batch.run() == 0
    book = openpyxl.load_workbook(batch.folder / "out.xlsx")
    rows = list(book["answers"].iter_rows(min_row=2))
    assert [[cell.value for cell in row[:3]] for row in rows] == [
        ["007", 12, "a"], ["49151234567890", 0.5, "b"], ["1.50", "1e5", "c"], [-3, None, "d"],
    ]  # fmt: skip
    answers = [row[3] for row in rows]
    assert {cell.data_type for cell in answers} == {"s"}
    assert [cell.value for cell in answers[:2]] == ["=1+1", "bell\ufffd _x005F_x0041_"]  # as Excel reads it
    assert answers[2].value.startswith("é" * 32_000)
    assert len(answers[2].value) == 32_767
    assert answers[3].value == "#N/A"
    assert "characters of a cell: 1;" in capsys.readouterr().err


def test_a_carriage_return_that_excel_has_escaped_is_one(tmp_path: Path) -> None:
    found = open_batch(make(tmp_path / "one.xlsx", [["prompt"], ["a_x000D_\nb _x0041_"]]))
    assert [record for _, record in found.records()] == [{"prompt": "a\r\nb _x0041_"}]


def test_one_column_is_enough(tmp_path: Path) -> None:
    found = open_batch(make(tmp_path / "one.xlsx", [["prompt"], ["a; b, c|d"]]))
    assert [record for _, record in found.records()] == [{"prompt": "a; b, c|d"}]


def test_a_wrong_size_in_the_file_hides_no_rows(tmp_path: Path) -> None:
    honest = make(tmp_path / "honest.xlsx", [["id", "prompt"], [1, "a"], [2, "b"]])
    wrong = tmp_path / "wrong.xlsx"
    with zipfile.ZipFile(honest) as source, zipfile.ZipFile(wrong, "w") as target:
        for name in source.namelist():
            target.writestr(
                name, source.read(name).replace(b'<dimension ref="A1:B3"', b'<dimension ref="A1"')
            )
    assert [record for _, record in open_batch(wrong).records()] == [
        {"id": "1", "prompt": "a"}, {"id": "2", "prompt": "b"},
    ]  # fmt: skip


def test_what_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = make(tmp_path / "empty.xlsx", [[]])
    with pytest.raises(UserInputError, match="has no rows"):
        open_batch(empty)
    damaged = tmp_path / "damaged.xlsx"
    with zipfile.ZipFile(damaged, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook")
    with pytest.raises(UserInputError, match="cannot be read"):
        open_batch(damaged)
    other = tmp_path / "other.xlsx"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("content.xml", "")
    with pytest.raises(UserInputError, match="another zip archive"):
        open_batch(other)
    monkeypatch.setattr(workbook, "_LARGEST", 100)
    with pytest.raises(UserInputError, match="too large"):
        open_batch(make(tmp_path / "large.xlsx", ROWS))
