"""The web page in a real browser, over the real application with scripted engines."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ..server.fakes import Script, hello
from ..server.guarded import Guarded, guarded_server

WAIT_MS = 90_000  # the machine may be busy; nothing waits so long that works


@dataclass
class Visit:
    """A page that is open, the server behind it, and what the browser said."""

    server: Guarded
    tab: Any
    hosts: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    async def open_tab(self, name: str) -> None:
        await self.tab.get_by_role("tab", name=name).click()

    async def choose(self, elem_id: str, option: str) -> None:
        await self.field(elem_id).click()
        await self.tab.get_by_role("option", name=option, exact=True).click()

    async def click(self, name: str) -> None:
        await self.tab.get_by_role("button", name=name, exact=True).locator("visible=true").click()

    async def unfold(self, name: str) -> None:
        """Open a part of the page that is folded up."""
        await self.tab.locator("button.label-wrap", has_text=name).locator("visible=true").click()

    def field(self, elem_id: str) -> Any:
        return self.tab.locator(f"#{elem_id} textarea, #{elem_id} input").first

    async def shows(self, elem_id: str, text: str) -> str:
        """Wait until a field has this in its value, and return the value."""
        await self.tab.wait_for_function(
            "([id, text]) => [...document.querySelectorAll(`#${id} textarea, #${id} input`)]"
            ".some((field) => field.value.includes(text))",
            arg=[elem_id, text],
        )
        return str(await self.field(elem_id).input_value())

    async def says(self, text: str, within: str = "body") -> None:
        """Wait until a text can be seen."""
        await self.tab.locator(within).get_by_text(text).locator("visible=true").first.wait_for()


@contextlib.asynccontextmanager
async def visit(
    outputs: Path,
    script: Script = hello,
    *,
    key: str = "",
    width: int = 1280,
    dark: bool = False,
    **options: Any,
) -> AsyncIterator[Visit]:
    """Open the page. `options` are those of `guarded_server`; `key` is what the browser is given as a password."""
    async_api = pytest.importorskip("playwright.async_api")
    pytest.importorskip("gradio")
    chromium = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None)
    if chromium is None:
        pytest.skip("the page is tested in Chromium, which is not installed")
    async with (
        guarded_server(script, outputs=outputs, **options) as server,
        async_api.async_playwright() as driver,
    ):
        browser = await driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        who = {"username": "any", "password": key} if key else None
        context = await browser.new_context(
            viewport={"width": width, "height": 900},
            http_credentials=who,
            color_scheme="dark" if dark else "light",
        )
        tab = await context.new_page()
        tab.set_default_timeout(WAIT_MS)
        seen = Visit(server, tab)
        tab.on("request", lambda request: seen.hosts.add(_host(request.url)))
        tab.on("pageerror", lambda error: seen.errors.append(str(error)))
        tab.on(
            "response",
            lambda got: seen.errors.append(f"{got.status} {got.url}") if got.status >= 400 else None,
        )
        await tab.goto(f"http://127.0.0.1:{server.port}/")
        if not key or await tab.get_by_role("tab").count():
            # The lists arrive when all is wired; what is typed before can be lost.
            await tab.wait_for_function("document.querySelector('#chat-model input')?.value")
        yield seen
        await browser.close()


def _host(url: str) -> str:
    """Of a request that could leave the machine; empty for what is part of the page (data:, blob:)."""
    return urlsplit(url).hostname or ""


def words(*pieces: Any) -> Script:
    """A script that always says these."""
    said: Sequence[Any] = pieces
    return lambda request: said
