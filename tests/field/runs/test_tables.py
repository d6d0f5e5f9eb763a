"""Tables as people have them: their prompts are answered, or the columns are named; no header is answered as text.

Reports of this kind: PapaParse #600, CSV.jl #1185, rainbow_csv #134, datapusher-plus #256, kukur #205 (delimiters);
kukur #279, PH5 #536, bels #39, community.general #544 (byte order marks in the first name); protvista #274 (a wrong
delimiter is told as a missing column); orionbelt-ontology-builder #91, CsvQuery #24 (no header).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from lqmf_runner.errors import UserInputError
from tests.support.runs.batch import Batch

CITY = "Name a city\nin France, please"
TABLES = {
    "prompt.csv": 'id,Prompt\n1,"Name a city\nin France, please"\n2,hi\n',
    "semicolons.csv": 'Frage;Nr\n"Name a city\nin France, please";1\nhi;2\n',
    "marked.csv": '\ufeffPROMPT,N\r\n"Name a city\nin France, please",1\r\nhi,2\r\n',
    "mac.csv": 'id;question\r1;"Name a city\nin France, please"\r2;hi\r',
    "excel.txt": 'No\tPregunta\r\n1\t"Name a city\nin France, please"\r\n2\thi\r\n',
    "separator.csv": 'sep=;\r\nID;备注;问题\r\n1;;"Name a city\nin France, please"\r\n2;;hi\r\n',
    "pipes.psv": 'nr|kysymys|pvm\n1|"Name a city\nin France, please"|2024-01-01\n2|hi|\n',
    "one.tsv": 'Query\n"Name a city\nin France, please"\nhi\n',
    "unknown.CSV": 'no,gêxta\n1,"Name a city\nin France, please"\n2,hi\n',
    "key.jsonl": '{"Prompt": "Name a city\\nin France, please", "id": 1}\n{"PROMPT": "hi"}\n',
    "question.jsonl": '{"question": "Name a city\\nin France, please", "n": 1}\n{"question": "hi", "n": 2}\n',
}


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    return Batch(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("name", TABLES)
def test_the_prompts_are_found(batch: Batch, name: str, encoding: str) -> None:
    batch.input = batch.folder / name
    batch.input.write_bytes(
        TABLES[name].removeprefix("\ufeff" if encoding == "utf-16" else "").encode(encoding)
    )
    batch.output = batch.input.with_suffix(".answers.jsonl")
    assert batch.run() == 0
    assert [answer["prompt"] for answer in batch.answers()] == [CITY, "hi"]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("instruction,input,output\nAdd,1 2,3\n", "instruction, input, output"),
        ("Kunde;Ort\nx;y\n", "Kunde, Ort"),
        ("id,year\n1,2024\n", "id, year"),
        ("1;Why is the sky blue?\n2;What is up?\n", "1, Why is the sky blue?"),
        ("hello\nworld\n", "hello"),
    ],
)
def test_what_is_not_clear_is_asked_for(batch: Batch, content: str, names: str) -> None:
    batch.input = batch.folder / "q.csv"
    batch.input.write_text(content)
    with pytest.raises(UserInputError) as caught:
        batch.run()
    assert names in caught.value.message
    assert "mode.prompt_field=" in caught.value.hint
    assert not batch.engines
    assert sorted(path.name for path in batch.folder.iterdir()) == ["q.csv", "run"]


def test_a_column_may_be_named(batch: Batch) -> None:
    batch.input = batch.folder / "q.csv"
    batch.input.write_text("Kunde;Ort\nx;y\n")
    batch.settings["prompt_field"] = "ort"
    assert batch.run() == 0
    assert batch.asked == ["y"]
    batch.settings["prompt_field"] = "Otr"
    with pytest.raises(UserInputError, match="no column 'Otr': its columns are Kunde, Ort") as caught:
        batch.run()
    assert "mode.prompt_field=Ort" in caught.value.hint


def test_text_with_a_prompt_in_every_line_stays_text(batch: Batch) -> None:
    prompts = ["Why, and when?", 'Say "a, b"; then stop.', "a | b", "prompt, please"]
    batch.input.write_text("\n".join(prompts))
    assert batch.run() == 0
    assert [answer["prompt"] for answer in batch.answers()] == prompts


def test_files_that_are_no_text_are_told(batch: Batch, tmp_path: Path) -> None:
    batch.input = tmp_path / "q.xlsx"
    batch.input.write_bytes(b"PK\x03\x04\x14\x00\x06\x00")
    with pytest.raises(UserInputError, match="a workbook") as caught:
        batch.run()
    assert "CSV" in caught.value.hint
