"""The tab Batch."""

from __future__ import annotations

import asyncio
import csv
import datetime
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import openpyxl
import psutil
import pytest

from ...support.screens.browser import visit, words
from ...support.server.guarded import guarded_server

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


async def test_a_workbook_comes_back_as_a_workbook_and_a_list_of_questions_as_lines(tmp_path: Path):
    book = openpyxl.Workbook()
    for row in (["Question", "Asked"], ["Where is it?", datetime.datetime(2026, 1, 31)]):
        book.active.append(row)
    book.save(tmp_path / "sheet.xlsx")
    (tmp_path / "list.txt").write_text("Where is it?\nAnd when?\n")
    async with visit(tmp_path / "outputs") as seen:
        await seen.open_tab("Batch")
        await seen.shows("batch-model", "m")
        for name, kind, total in (("sheet.xlsx", "XLSX", 1), ("list.txt", "JSONL", 2)):
            await seen.tab.locator("#batch-file input[type=file]").set_input_files(tmp_path / name)
            await seen.shows("batch-kind", kind)
            await seen.says("Where is it?", "#batch-preview")
            await seen.click("Answer all")
            await seen.says(f"{total} of {total} answered.", "#batch-progress")
            async with seen.tab.expect_download() as started:
                await seen.tab.locator("#batch-answers a[download]").first.click()
            download = await started.value
            assert download.suggested_filename == f"{Path(name).stem}.answers.{kind.lower()}"
            await download.save_as(tmp_path / download.suggested_filename)
            assert await seen.shows("batch-command", download.suggested_filename)
            await seen.tab.reload()
            await seen.open_tab("Batch")
            await seen.shows("batch-model", "m")
    rows = list(openpyxl.load_workbook(tmp_path / "sheet.answers.xlsx").active.iter_rows(values_only=True))
    assert rows[1][:3] == ("Where is it?", datetime.datetime(2026, 1, 31), "Hello you")
    lines = (tmp_path / "list.answers.jsonl").read_text().splitlines()
    assert [json.loads(line)["response"] for line in lines] == ["Hello you"] * 2


async def test_a_visitor_who_leaves_ends_the_batch(tmp_path: Path):
    never = asyncio.Event()
    source = tmp_path / "questions.csv"
    write_table(source)
    async with visit(tmp_path / "outputs", words("One", never)) as seen:
        await seen.open_tab("Batch")
        await seen.shows("batch-model", "m")
        await seen.tab.locator("#batch-file input[type=file]").set_input_files(source)
        await seen.says("Where is it?", "#batch-preview")
        await seen.click("Answer all")
        async with asyncio.timeout(90):
            while not seen.server.state.pool.models or not seen.server.engines["m"].running:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            await seen.tab.close()
            await seen.server.engines["m"].idle.wait()


async def test_a_file_that_is_no_text_and_one_of_a_gigabyte_are_refused_at_once(tmp_path: Path):
    picture, large = tmp_path / "x.csv", tmp_path / "large.csv"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00" * 50)
    large.write_bytes(b"prompt\n")
    os.truncate(large, 1 << 30)
    async with visit(tmp_path / "outputs") as seen:
        await seen.open_tab("Batch")
        await seen.tab.locator("#batch-file input[type=file]").set_input_files(picture)
        await seen.says("x.csv", ".toast-wrap")
        await seen.tab.reload()
        await seen.open_tab("Batch")
        await seen.tab.locator("#batch-file input[type=file]").set_input_files(large)
        await seen.says("exceed", ".toast-wrap")


@pytest.mark.parametrize("announced", [True, False])
async def test_a_gigabyte_that_a_program_sends_is_refused_and_not_kept(announced: bool, tmp_path: Path):
    """Past the page, which looks at the size itself; with its length announced, and without."""
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="q.csv"\r\n\r\n'
    piece, sent, me = bytes(1 << 20), 0, psutil.Process()
    headers = {"content-type": "multipart/form-data; boundary=x"}
    if announced:
        headers["content-length"] = str(len(head) + (1 << 30))

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        yield head
        for _ in range(1 << 10):
            sent += len(piece)
            yield piece

    async with guarded_server(outputs=tmp_path) as server:
        assert (await server.client.get("/ui/")).status_code == 200
        before = me.memory_info().rss
        try:
            reply = await server.client.post("/ui/gradio_api/upload", content=body(), headers=headers)
            assert reply.status_code == 413
            assert "too large" in reply.text or "exceeded" in reply.text
        except (httpx.WriteError, httpx.ReadError):
            pass  # the connection was closed before the client had looked for an answer
        assert sent < 256 << 20
        assert me.memory_info().rss - before < 64e6
        assert (await server.client.get("/health")).status_code == 200


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
