"""Tables: what is one, how it is delimited, and its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lqmf_runner.errors import UserInputError
from lqmf_runner.runs.batch.lines import BadLineError
from lqmf_runner.runs.batch.table import Table, recognise_table
from lqmf_runner.runs.batch.text_file import open_text


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def recognise(
        content: str, name: str = "q.txt", asked: str | None = None
    ) -> tuple[Table | None, str | None]:
        path = tmp_path / name
        path.write_bytes(content.encode())
        return recognise_table(open_text(path), asked, sure=False)

    return recognise


def rows(table: Table, content: str) -> list[Any]:
    lines = content.splitlines(keepends=True)
    return [str(row) if isinstance(row, BadLineError) else row for _, row in table.read(lines)]


@pytest.mark.parametrize(
    ("content", "delimiter"),
    [
        ("id,question\n1,hi\n", ","),
        ("id;Frage\n1;a, b\n2;c, d\n", ";"),
        ("id\tx\n1\thi\n", "\t"),
        ("id|titel\n1|a;b\n", "|"),
        ("nr,name,place\n1,a,b\n2,c,d\n", ","),
        ("SKU (one, two);Name (3, long);Pregunta\n1;2;3,5\n4;5;6,7\n", ";"),
        ("sep=;\r\nid;Question\r\n1;a,b\r\n", ";"),
        ('"sep=|"\nid|Question\n1|a,b\n', "|"),
        ("Prompt\nhi, you\nho; hu\n", "\x1f"),
    ],
)
def test_a_table_is_known_by_its_header_and_its_even_rows(read: Any, content: str, delimiter: str) -> None:
    table, note = read(content)
    assert table is not None
    assert (table.delimiter, note) == (delimiter, None)


@pytest.mark.parametrize(
    "content",
    [
        "Why, and when?\nWell, who?\n",
        "Paris, France\nRome, Italy\nBonn, Germany\n",
        "Say a; then b.\nSay c; then d.\n",
        "ls | wc\nps | grep x\n",
        "one\ntwo\n",
        "just one line, and a comma\n",
    ],
)
def test_sentences_with_commas_are_text(read: Any, content: str) -> None:
    assert read(content)[0] is None


def test_text_that_could_be_a_table_is_noted(read: Any) -> None:
    _, note = read("Paris, France\nRome, Italy\nBonn, Germany\n")
    assert "mode.input_format=csv" in note


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.csv", "1,Why is the sky blue?\n2,What is up?\n"),
        ("q.CSV", "Why is the sky blue?\nWhat, then?\n"),
        ("q.txt", "1\tWhy is the sky blue?\n2\tWhat is up?\n"),
        ("q.csv", "When,Do you have a question?\n1,hi\n"),
    ],
)
def test_a_table_without_a_header_is_refused(read: Any, name: str, content: str) -> None:
    with pytest.raises(UserInputError, match="does not look like a header") as caught:
        read(content, name)
    assert "mode.prompt_field=" in caught.value.hint
    assert "mode.input_format=text" in caught.value.hint


def test_a_column_that_is_asked_for_makes_a_header(read: Any) -> None:
    table, _ = read("When,Do you have a question?\n1,hi\n", "q.csv", "do you have a question?")
    assert table.header == ("When", "Do you have a question?")


def test_a_table_in_markdown_and_one_without_rows_are_refused(read: Any) -> None:
    with pytest.raises(UserInputError, match="in Markdown"):
        read("| id | prompt |\n|----|:------:|\n| 1 | hi |\n", "q.md")
    with pytest.raises(UserInputError, match="no rows"):
        read("id,prompt\n", "q.csv")


def test_headers_are_found_and_made_unique(read: Any) -> None:
    content = "\n;;\nid;prompt;prompt;;x;;\n1;a;b;c;d;;\n"
    table, _ = read(content)
    assert table.header == ("id", "prompt", "prompt.2", "column 4", "x")
    assert rows(table, content) == [{"id": "1", "prompt": "a", "prompt.2": "b", "column 4": "c", "x": "d"}]


def test_rows_that_are_not_clear_are_told(read: Any) -> None:
    content = 'id,prompt\n1\n2,a,b\n3,c,,\n4,"say "hi""\n5,ok\n6,"open\n7,lost\n'
    table, _ = read(content)
    short, long, padded, quoted, fine, unclosed = rows(table, content)
    assert (short, padded, fine) == ({"id": "1"}, {"id": "3", "prompt": "c"}, {"id": "5", "prompt": "ok"})
    assert long == "it has 3 cells, the header 2"
    assert "must be doubled" in quoted
    assert "never closed" in unclosed


def test_blanks_after_delimiters_may_stand_before_quotation_marks(read: Any) -> None:
    content = 'id, prompt\n1, "hi, you"\n2, ho\n'
    table, _ = read(content)
    assert [row["prompt"] for row in rows(table, content)] == ["hi, you", "ho"]
