"""The tab Server."""

from __future__ import annotations

from pathlib import Path

from ...support.screens.browser import visit


async def test_it_shows_what_is_running_and_how_programs_reach_it(tmp_path: Path):
    async with visit(tmp_path, keys="sesame", key="sesame") as seen:
        await seen.open_tab("Server")
        await seen.says("running", "#server-now")
        shown = await seen.tab.locator("#server-snippets").inner_text()
        assert f"http://127.0.0.1:{seen.server.port}/v1" in shown
        assert "Bearer <key>" in shown
        assert "sesame" not in await seen.tab.content()
