"""The tab Arena."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lqmf_runner.types import GenerationRequest
from lqmf_runner.ui.votes import count_votes

from ...support.browser import visit


def counting(request: GenerationRequest) -> Sequence[str]:
    return ["one ", "two ", "three"]


async def test_a_blind_vote_is_kept_once_and_shows_the_names(tmp_path: Path):
    async with visit(tmp_path, counting) as seen:
        await seen.open_tab("Arena")
        await seen.says("other", "#arena-models")
        await seen.field("arena-question").fill("Count")
        await seen.click("Ask all")
        await seen.says("All answers are the same.", "#arena-parts")
        head = await seen.tab.locator("#arena-0 h4").inner_text()
        assert head == "A"  # no name before the vote
        await seen.click("A is better")
        await seen.says("Counted.", "#arena-outcome")
        winner = (await seen.tab.locator("#arena-0 h4").inner_text()).removeprefix("A: ")
        await seen.click("A is better")
        await seen.says("counted once", "#arena-outcome")
        rows = {row[0]: row[1:] for row in count_votes(tmp_path)}
        assert rows[winner] == ["1", "1", "0", "0", "1"]
        assert rows.keys() == {"m", "other"}
