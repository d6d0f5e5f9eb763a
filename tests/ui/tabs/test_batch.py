"""The tab Batch."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ...support.browser import visit

ROWS = [["id", "Customer", "Question"], ["1", "Ann", "Where is it?"], ["2", "Bob", "=1+1, why?"]]


def write_table(path: Path) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(ROWS)


def read_table(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


async def test_a_table_is_previewed_answered_and_downloaded_with_its_columns(tmp_path: Path):
    source = tmp_path / "questions.csv"
    write_table(source)
    async with visit(tmp_path / "outputs", keys="sesame", key="sesame") as seen:
        await seen.open_tab("Batch")
        await seen.shows("batch-model", "m")
        await seen.tab.locator("#batch-file input[type=file]").set_input_files(source)
        await seen.shows("batch-column", "Question")
        await seen.says("Where is it?", "#batch-preview")
        await seen.click("Answer all")
        await seen.says("2 of 2 answered.", "#batch-progress")
        async with seen.tab.expect_download() as started:
            await seen.tab.locator("#batch-answers a[download]").first.click()
        download = await started.value
        rows = read_table(await download.path())
    assert [row[:3] for row in rows] == ROWS
    assert [row[3] for row in rows[1:]] == ["Hello you"] * 2


async def test_a_file_that_is_no_text_and_one_that_is_too_large_are_refused(tmp_path: Path):
    picture, large = tmp_path / "x.csv", tmp_path / "large.csv"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00" * 50)
    large.write_bytes(b"prompt\n" + b"a" * 2_000_000)
    async with visit(tmp_path / "outputs") as seen:
        await seen.open_tab("Batch")
        await seen.tab.locator("#batch-file input[type=file]").set_input_files(picture)
        await seen.says("x.csv", ".toast-wrap")
        await seen.tab.reload()
        await seen.open_tab("Batch")
        await seen.tab.locator("#batch-file input[type=file]").set_input_files(large)
        await seen.says("exceed", ".toast-wrap")


async def test_the_name_of_a_column_is_nothing_but_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECRET_WORD", "hunter2")
    column, source = "${oc.env:SECRET_WORD}", tmp_path / "questions.csv"
    source.write_text(f"id,{column}\n1,Where is it?\n")
    async with visit(tmp_path / "outputs") as seen:
        await seen.open_tab("Batch")
        await seen.shows("batch-model", "m")
        await seen.tab.locator("#batch-file input[type=file]").set_input_files(source)
        await seen.shows("batch-column", "")
        await seen.choose("batch-column", column)
        await seen.says("Where is it?", "#batch-preview")
        await seen.click("Answer all")
        await seen.says("1 of 1 answered.", "#batch-progress")
        assert "hunter2" not in await seen.tab.content()
