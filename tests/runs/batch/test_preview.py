"""A dry run, and the question for the column."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.support.engine.endpoint import serve
from tests.support.engine.scripted import Say
from tests.support.runs.batch import Batch, lines
from tests.support.screens.terminal import needs_tmux, open_terminal

SHEET = 'name,first,second\nx,how are you?,who are you?\ny,b,"c\nd"\n'


def test_a_dry_run_shows_three_answers_and_writes_nothing(
    batch: Batch, capsys: pytest.CaptureFixture[str]
) -> None:
    batch.input.write_text(lines(40))
    batch.settings["dry_run"] = True
    batch.script = lambda n, _: [Say(0.0, f"an\x1b[2J\nswer {n}", finish_reason="length")]
    before = sorted(batch.folder.rglob("*"))
    assert batch.run() == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        line
        for n in range(3)
        for line in (f"line {n + 1}: question {n + 1}", f"  → an [2J swer {n} (cut off at max_tokens)")
    ]
    assert "all 40 take about" in shown.err
    assert len(batch.asked) == 3
    assert batch.engines[0].closed
    assert sorted(batch.folder.rglob("*")) == before


@needs_tmux
def test_the_column_is_asked_for_in_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "sheet.csv").write_text(SHEET)
    with serve(lambda prompt: f"<{prompt}>") as endpoint:
        arguments = ("mode=batch", "model=openai", f"backend.base_url={endpoint.url}", "mode.input=sheet.csv")
        with open_terminal(tmp_path, *arguments, "tracking.enabled=false", columns=100) as terminal:
            terminal.wait_for("3  second")
            terminal.enter("4")
            terminal.enter("3")
            terminal.wait_for("exit code 0.")
    with (tmp_path / "sheet.answers.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert [row[:4] for row in rows] == [
        ["name", "first", "second", "answer"],
        ["x", "how are you?", "who are you?", "<who are you?>"],
        ["y", "b", "c\nd", "<c\nd>"],
    ]
