"""Which files a batch reads and writes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lqmf_runner.config import BatchMode
from lqmf_runner.errors import MissingDependencyError, UserInputError
from lqmf_runner.runs.batch.files import BatchFiles, choose_files

OPENAI = '{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "x"}}\n'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "q.csv"
    path.write_text("id,prompt\n1,hi\n")
    return path


def choose(source: Path, output: Path | None = None) -> BatchFiles:
    return choose_files(BatchMode(input=str(source), output=str(output) if output else None))


def test_answers_lie_beside_the_input(source: Path) -> None:
    lines = source.with_name("q.txt")
    lines.write_text("hi\n")
    files = choose(lines)
    assert (files.answers, files.table) == (source.with_name("q.answers.jsonl"), None)
    assert files.result == files.answers


@pytest.mark.parametrize(("name", "table"), [("q.csv", "q.answers.csv"), ("q.tsv", "q.answers.tsv")])
def test_the_answers_to_a_table_are_a_table(source: Path, name: str, table: str) -> None:
    source = source.rename(source.with_name(name))
    files = choose(source)
    assert (files.answers.name, files.result.name) == ("q.answers.jsonl", table)


@pytest.mark.parametrize("name", ["out.csv", "out.CSV", "out.tsv", "out.xlsx"])
def test_a_table_has_its_lines_beside_it(source: Path, name: str) -> None:
    files = choose(source, source.with_name(name))
    assert (files.answers, files.result) == (source.with_name("out.answers.jsonl"), source.with_name(name))


def test_a_table_of_something_else_is_not_overwritten(source: Path) -> None:
    table = source.with_name("mine.csv")
    table.write_text("my,data\n")
    with pytest.raises(UserInputError, match="is not the output of a batch"):
        choose(source, table)
    with pytest.raises(UserInputError, match="input and output at once"):
        choose(source, source)
    source.with_name("mine.answers.jsonl").write_text("{}\n")
    assert choose(source, table).table == table


def test_formats_that_are_not_written_are_refused(source: Path) -> None:
    with pytest.raises(UserInputError, match="JSONL, CSV or XLSX"):
        choose(source, source.with_name("out.ods"))
    lines = source.with_name("openai.jsonl")
    lines.write_text(OPENAI)
    with pytest.raises(UserInputError, match="are in that format"):
        choose(lines, source.with_name("out.csv"))
    assert choose(lines, source.with_name("out.jsonl")).table is None


def test_a_workbook_is_refused_before_anything_is_answered_if_it_cannot_be_written(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingDependencyError, match="writing XLSX needs"):
        choose(source, source.with_name("out.xlsx"))


def test_a_tilde_is_the_home_folder(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(source.parent))
    assert choose(Path("~/q.csv")).source.path == source


def test_the_format_may_be_said(source: Path) -> None:
    files = choose_files(BatchMode(input=str(source), input_format="text"))
    assert files.source.format == "text"
