"""How a text file is read: encodings, line ends, and files that are no text."""

from __future__ import annotations

from pathlib import Path

import pytest

from lqmf_runner.errors import UserInputError
from lqmf_runner.runs.batch.text_file import open_text


def _lines(path: Path) -> list[str]:
    with open_text(path).open() as file:
        return [line.rstrip("\r\n") for line in file]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings_are_recognised(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes("Wie schön\r\n日本 then a longer line in Latin script\r\n".encode(encoding))
    assert _lines(path) == ["Wie schön", "日本 then a longer line in Latin script"]
    assert open_text(path).marked == (encoding in ("utf-8-sig", "utf-16"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"one\rtwo\r", ["one", "two"]),
        (b'id,prompt\r1,"a\nb"\r', ["id,prompt", '1,"a\nb"']),
        (b"one\r\ntwo", ["one", "two"]),
        (b"one\rstill one\ntwo\n", ["one\rstill one", "two"]),
        (b'one "\r" one\ntwo', ['one "\r" one', "two"]),
    ],
)
def test_a_carriage_return_ends_lines_where_nothing_else_does(
    tmp_path: Path, content: bytes, expected: list[str]
) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(content)
    assert _lines(path) == expected


def test_the_sample_is_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_text("x" * 70_000 + "\nsecond\n")
    file = open_text(path)
    assert (file.sample, file.whole) == ("x" * 70_000 + "\n", False)
    path.write_text("x\ny\n")
    assert (open_text(path).sample, open_text(path).whole) == ("x\ny\n", True)


def test_a_workbook_is_to_be_saved_as_csv(tmp_path: Path) -> None:
    path = tmp_path / "in.xlsx"
    path.write_bytes(b"PK\x03\x04\x14\x00")
    with pytest.raises(UserInputError, match="a workbook") as caught:
        open_text(path)
    assert "save it as CSV" in caught.value.hint
