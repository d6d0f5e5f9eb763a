"""The page on the server: who gets to it, and what it loads."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ..support.screens.browser import visit
from ..support.server.guarded import guarded_server

HTML = {"accept": "text/html"}


async def test_a_browser_is_sent_to_the_page_and_a_program_gets_the_status(tmp_path: Path):
    async with guarded_server(outputs=tmp_path) as server:
        reply = await server.client.get("/", headers=HTML)
        assert (reply.status_code, reply.headers["location"]) == (307, "/ui/")
        assert (await server.client.get("/")).json()["name"] == "lqmf-runner"


async def test_without_the_page_there_is_nothing_of_it():
    async with guarded_server() as server:
        assert (await server.client.get("/ui/")).status_code == 404
        assert (await server.client.get("/", headers=HTML)).json()["name"] == "lqmf-runner"


@pytest.mark.parametrize(
    "path", ["/ui", "/ui/", "/ui/config", "/ui/theme.css", "/ui/gradio_api/info", "/ui/gradio_api/queue/data",
             "/ui/gradio_api/file=/etc/passwd", "/ui/runs/x/report.html", "/ui/../ui/config", "/ui/assets/x.js"],
)  # fmt: skip
async def test_nothing_of_the_page_is_open_without_the_key(path: str, tmp_path: Path):
    async with guarded_server(keys="sesame", outputs=tmp_path) as server:
        for headers in ({}, {"authorization": "Bearer wrong"}):
            for method in ("GET", "POST"):
                assert (await server.client.request(method, path, headers=headers)).status_code == 401


async def test_a_forged_host_and_a_foreign_page_are_refused(tmp_path: Path):
    async with guarded_server(outputs=tmp_path) as server:
        assert (await server.client.get("/ui/", headers={"host": "evil.example"})).status_code == 400
        headers = {"origin": "http://evil.example"}
        reply = await server.client.post("/ui/gradio_api/queue/join", headers=headers, json={})
        assert reply.status_code == 403


async def test_the_page_takes_no_address_from_a_stranger_but_from_a_proxy_that_is_known(tmp_path: Path):
    async with guarded_server(outputs=tmp_path, allowed_hosts=["llm.example"]) as server:
        for host, named in (
            ("evil.example", False),
            ("llm.example, evil.example", False),
            ("llm.example", True),
        ):
            headers = {"x-forwarded-host": host, "x-forwarded-proto": "https"}
            reply = await server.client.get("/ui/config", headers=headers)
            assert ("//llm.example/ui" in reply.json()["root"]) is named
            assert "evil.example" not in reply.text
        reply = await server.client.get("/ui/config", headers={"x-gradio-server": "http://evil.example"})
        assert "evil.example" not in reply.text


async def test_no_file_of_the_machine_can_be_fetched(tmp_path: Path):
    async with guarded_server(outputs=tmp_path) as server:
        for path in ("/etc/passwd", str(tmp_path), sys.executable):
            assert (await server.client.get(f"/ui/gradio_api/file={path}")).status_code in (403, 404)


async def test_a_wrong_key_does_not_see_the_page_and_the_right_one_does(tmp_path: Path):
    async with visit(tmp_path, keys="sesame", key="wrong") as seen:
        assert await seen.tab.get_by_role("tab").count() == 0
    async with visit(tmp_path, keys="sesame", key="sesame") as seen:
        await seen.open_tab("Models")
        await seen.says("other", "#models-table")


@pytest.mark.parametrize("width", [390, 1280])
async def test_no_request_leaves_the_machine_and_nothing_fails(width: int, tmp_path: Path):
    async with visit(tmp_path, width=width) as seen:
        for tab in await seen.tab.get_by_role("tab").all():
            if await tab.is_visible():
                await tab.click()
        await seen.open_tab("Models")
        await seen.says("other", "#models-table")
        # Nothing reaches beyond the sides of the window.
        assert await seen.tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert seen.hosts <= {"127.0.0.1", ""}
        assert seen.errors == []
