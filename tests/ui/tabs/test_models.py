"""The tab Models."""

from __future__ import annotations

from pathlib import Path

from ...support.browser import visit


async def test_a_model_is_loaded_pinned_and_unloaded(tmp_path: Path):
    async with visit(tmp_path) as seen:
        await seen.open_tab("Models")
        await seen.shows("models-name", "m")
        await seen.click("Load")
        await seen.shows("models-outcome", "m loaded in")
        await seen.says("ready", "#models-table")
        await seen.click("Pin")
        await seen.says("ready, pinned", "#models-table")
        pool = seen.server.state.pool
        assert [(model.name, model.pinned) for model in pool.models] == [("m", True)]
        await seen.click("Unpin")
        await seen.shows("models-outcome", "makes room")
        await seen.click("Unload")
        await seen.shows("models-outcome", "unloaded, 100 MB freed")
        assert not pool.models


async def test_a_key_without_the_role_is_told_so(tmp_path: Path):
    async with visit(tmp_path, keys="reader:use", key="reader") as seen:
        await seen.open_tab("Models")
        await seen.shows("models-name", "m")
        await seen.click("Load")
        await seen.says("may not load or unload")
        assert not seen.server.state.pool.models
