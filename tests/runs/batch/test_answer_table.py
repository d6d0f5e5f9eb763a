"""Tables of answers: all columns, in the input's order, continued by later runs."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path

import pytest

from lqmf_runner.errors import InvalidRequestError, UserInputError
from lqmf_runner.types import GenerationRequest
from tests.support.engine.scripted import Fail, Say
from tests.support.runs.batch import Batch, echo, prompt_of

SHEET = '\ufeffID;Kunde;Frage;\r\n1;Müller;"Wie\ngeht es?";\r\n7;;wer?;\r\n8;x;;\r\n'


def rows(path: Path, delimiter: str = ",") -> list[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.reader(file, delimiter=delimiter))


@pytest.fixture
def sheet(batch: Batch) -> Batch:
    batch.input = batch.folder / "sheet.csv"
    batch.input.write_bytes(SHEET.encode())
    batch.settings["output"] = str(batch.folder / "out.csv")
    batch.output = batch.folder / "out.answers.jsonl"
    return batch


def test_a_sheet_comes_back_with_its_answers(sheet: Batch, capsys: pytest.CaptureFixture[str]) -> None:
    assert sheet.run() == 1
    out = sheet.folder / "out.csv"
    assert rows(out, ";") == [
        ["ID", "Kunde", "Frage", "answer", "finish_reason", "error"],
        ["1", "Müller", "Wie\ngeht es?", "you said Wie\ngeht es?", "stop", ""],
        ["7", "", "wer?", "you said wer?", "stop", ""],
        ["8", "x", "", "", "", "line 5: it has no text in 'Frage'"],
    ]
    assert out.read_bytes().startswith(b"\xef\xbb\xbfID;")
    shown = capsys.readouterr()
    assert shown.out.strip() == str(out)
    assert "the prompts are read from 'Frage'" in shown.err
    assert "out.answers.jsonl is what a later run continues from" in shown.err
    assert [answer["columns"] for answer in sheet.answers() if "response" in answer] == [
        {"Kunde": "Müller"}, {"Kunde": ""},
    ]  # fmt: skip


def test_a_later_run_answers_what_is_missing(sheet: Batch) -> None:
    def failing(_: int, request: GenerationRequest) -> list[Say | Fail]:
        return [Fail(0.0, InvalidRequestError("sick"))] if prompt_of(request) == "wer?" else echo(0, request)

    sheet.script = failing
    assert sheet.run() == 1
    out = sheet.folder / "out.csv"
    assert [row[5] for row in rows(out, ";")][2] == "sick"
    sheet.script = echo
    sheet.input.write_bytes(SHEET.replace("8;x;;", "8;x;und?;").encode())
    assert sheet.run() == 0
    assert sorted(sheet.asked) == ["und?", "wer?"]
    assert [row[3] for row in rows(out, ";")][1:] == [
        "you said Wie\ngeht es?", "you said wer?", "you said und?",
    ]  # fmt: skip
    out.write_text("edited by hand")
    assert sheet.run() == 0
    assert out.read_text() == "edited by hand", "there was nothing new"


def test_an_interrupt_leaves_a_table_of_what_is_done(sheet: Batch) -> None:
    def interrupt(_: int, request: GenerationRequest) -> list[Say | Fail]:
        if prompt_of(request) == "wer?":
            signal.raise_signal(signal.SIGINT)
        return echo(0, request)

    sheet.settings["concurrency"] = 1
    sheet.script = interrupt
    assert sheet.run() == 130
    out = sheet.folder / "out.csv"
    assert [row[3] for row in rows(out, ";")][1:3] == ["you said Wie\ngeht es?", ""]
    sheet.script = echo
    assert sheet.run() == 1
    assert [row[3] for row in rows(out, ";")][1:3] == ["you said Wie\ngeht es?", "you said wer?"]


def test_other_inputs_become_tables_too(batch: Batch) -> None:
    batch.settings["output"] = str(batch.folder / "out.tsv")
    records = [{"prompt": "a", "answer": "gold"}, {"prompt": "b", "tags": [1, "é"], "x": None}]
    batch.write(records)
    assert batch.run() == 0
    assert rows(batch.folder / "out.tsv", "\t") == [
        ["prompt", "answer", "tags", "x", "answer.2", "finish_reason", "error"],
        ["a", "gold", "", "", "you said a", "stop", ""],
        ["b", "", '[1, "é"]', "", "you said b", "stop", ""],
    ]


def test_a_table_that_belongs_to_somebody_else_stays(sheet: Batch) -> None:
    out = sheet.folder / "out.csv"
    out.write_text("mine")
    with pytest.raises(UserInputError, match="not the output of a batch"):
        sheet.run()
    assert out.read_text() == "mine"
    assert not sheet.engines


def test_lines_of_json_are_in_the_order_of_the_input_too(batch: Batch) -> None:
    def slow_first(_: int, request: GenerationRequest) -> list[Say | Fail]:
        number = int(prompt_of(request).split()[-1])
        return [Say(0.02 * (6 - number), f"answer {number}")]

    batch.script = slow_first
    batch.input.write_text("".join(f"question {n}\n" for n in range(1, 6)))
    assert batch.run() == 0
    assert [json.loads(line)["line"] for line in batch.output.read_text().splitlines()] == [1, 2, 3, 4, 5]
    before = batch.output.read_bytes()
    assert batch.run() == 0
    assert batch.output.read_bytes() == before
