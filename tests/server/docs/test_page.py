"""The documentation page: whole, with nothing from elsewhere, and with examples that run as they stand."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import httpx

from ...support.server.examples import CHANGES_FILES, NO_EMBEDDINGS, NOT_KEPT, run_examples
from ...support.server.fakes import fake_server
from ...support.server.guarded import guarded_server, walk

UNLISTED = ("/openapi.json", "/docs")  # what describes the others


class Page(HTMLParser):
    """What a browser would fetch, run and offer."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.inline: list[str] = []
        self.operations: set[tuple[str, str]] = set()
        self.bodies: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links |= {value for name in ("src", "href") if (value := given.get(name))}
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)
        if "data-path" in given:
            self.operations.add((str(given["data-method"]), str(given["data-path"])))
        if tag == "option" and (value := given.get("value")):
            self.bodies.append(value)


async def page_of(client: httpx.AsyncClient) -> Page:
    response = await client.get("/docs")
    assert response.headers["content-type"].startswith("text/html")
    return Page(response.text)


async def test_every_route_is_on_the_page():
    async with guarded_server() as server:
        page = await page_of(server.client)
        routes = {(method, path) for method, path in walk(server.app) if method in ("GET", "POST", "DELETE")}
    shown = {(method, re.sub(r"\{\w+\}", "m", path)) for method, path in page.operations}
    assert shown == {(method, path) for method, path in routes if not path.startswith(UNLISTED)}


async def test_the_page_takes_nothing_from_elsewhere_and_runs_nothing_inline():
    async with guarded_server() as server:
        page = await page_of(server.client)
        policy = (await server.client.get("/docs")).headers["content-security-policy"]
        texts = {}
        for link in sorted(page.links):
            assert link.startswith(("/", "#", "data:,")), link
            assert not link.startswith("//")
            if link.startswith("/"):
                answer = await server.client.get(link)
                assert answer.status_code == 200, link
                texts[link] = answer.text
    assert page.inline == []
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"url\(|@import", texts["/docs/page.css"])
    assert not re.search(r"https?:|import|eval|innerHTML", texts["/docs/page.js"])


async def test_every_example_of_the_document_is_answered():
    async with fake_server() as (client, _):
        await client.post("/models/m/load")
        refused = await run_examples(client, "m")
    # The scripted engine gives no embeddings, as most models do, and nothing is tracked.
    untracked = {f"/models/{{name}}/{action}": 400 for action in ("promote", "rollback", "split")}
    assert refused == {**NO_EMBEDDINGS, **CHANGES_FILES, **NOT_KEPT, **untracked}


async def test_examples_name_a_model_of_this_server():
    async with fake_server(sizes={"first": 1.0, "second": 1.0}) as (client, _):
        await client.post("/models/second/load")
        page = await page_of(client)
        document: Any = (await client.get("/openapi.json")).json()
    assert '"model": "second"' in page.bodies[0]
    assert document["paths"]["/v1/models/{name}"]["get"]["parameters"][0]["example"] == "second"


async def test_a_model_that_looks_like_markup_is_text():
    name = '"><script>alert(1)</script>'
    async with fake_server(sizes={name: 1.0}) as (client, _):
        html = (await client.get("/docs")).text
    assert "<script>alert" not in html
    assert Page(html).inline == []


async def test_a_browser_comes_in_with_the_key_as_its_password():
    async with guarded_server(keys="sesame") as server:
        page = {"accept": "text/html,application/xhtml+xml"}
        refused = await server.client.get("/docs", headers=page)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic ")
        assert "password" in refused.json()["hint"]
        assert (await server.client.get("/docs", auth=("anyone", "sesame"))).status_code == 200
        assert (await server.client.get("/docs", auth=("sesame", "wrong"))).status_code == 401
        script = await server.client.get("/docs/page.js")
        assert (script.status_code, script.headers["www-authenticate"]) == (401, "Bearer")
