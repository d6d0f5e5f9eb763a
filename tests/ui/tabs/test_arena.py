"""The tab Arena."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from lqmf_runner.types import GenerationRequest
from lqmf_runner.ui.votes import count_votes

from ...support.screens.browser import Visit, visit, words
from .test_chat import EVIL


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


async def test_markup_of_an_answer_is_text_and_a_visitor_who_leaves_ends_all(tmp_path: Path):
    never = asyncio.Event()
    async with visit(tmp_path, words(EVIL, never)) as seen:
        await seen.open_tab("Arena")
        await seen.says("other", "#arena-models")
        await seen.field("arena-question").fill("Count")
        await seen.click("Ask all")
        await seen.says("<b>bold</b>", "#arena-0")
        await seen.says("<b>bold</b>", "#arena-1")
        assert await seen.tab.title() != "caught"
        assert seen.hosts <= {"127.0.0.1", ""}
        await seen.tab.close()
        async with asyncio.timeout(60):
            for name in ("m", "other"):
                await seen.server.engines[name].idle.wait()


async def _count_to_two(seen: Visit) -> None:
    """Ask both models, and wait until each has said two words and goes on."""
    await seen.open_tab("Arena")
    await seen.says("other", "#arena-models")
    await seen.field("arena-question").fill("Count")
    await seen.click("Ask all")
    for column in ("#arena-0", "#arena-1"):
        await seen.says("one two", column)


async def test_a_vote_waits_for_all_answers_or_for_stop(tmp_path: Path):
    never = asyncio.Event()
    async with visit(tmp_path, words("one ", "two", never)) as seen:
        await _count_to_two(seen)
        await seen.click("A is better")
        await seen.says("the answers are still coming")
        assert await seen.tab.locator("#arena-0 h4").inner_text() == "A"
        await seen.click("Stop all")
        await seen.says("stopped by you", "#arena-1")
        await seen.click("A is better")
        await seen.says("Counted.", "#arena-outcome")


async def test_stop_ends_all_answers_and_the_next_question_is_answered(tmp_path: Path):
    never = asyncio.Event()
    async with visit(tmp_path, words("one ", "two", never)) as seen:
        await _count_to_two(seen)
        await seen.click("Stop all")
        for column in ("#arena-0", "#arena-1"):
            await seen.says("stopped by you", column)
        for name in ("m", "other"):
            await seen.server.engines[name].idle.wait()  # the models do not go on for nobody
        never.set()
        await seen.click("Ask all")
        for column in ("#arena-0", "#arena-1"):
            await seen.says("tok/s", column)
        await seen.says("All answers are the same.", "#arena-parts")


async def test_a_model_that_fails_is_not_voted_on(tmp_path: Path):
    async with visit(tmp_path, sizes={"m": 100.0, "other": 9000.0}) as seen:
        await seen.open_tab("Arena")
        await seen.says("other", "#arena-models")
        await seen.tab.locator("#arena-blind input").uncheck()
        await seen.field("arena-question").fill("Hi")
        await seen.click("Ask all")
        await seen.says("⚠", "#arena-1")
        await seen.says("Hello you", "#arena-0")
        await seen.says("tok/s", "#arena-0")
        await seen.click("A is better")
        await seen.says("B gave no answer")
        assert count_votes(tmp_path) == []
        assert not await seen.tab.locator("#arena-parts").inner_text()


async def test_a_block_of_code_that_is_not_closed_does_not_swallow_the_speed(tmp_path: Path):
    async with visit(tmp_path, words("```python\nprint(1)\n")) as seen:
        await seen.open_tab("Arena")
        await seen.says("other", "#arena-models")
        await seen.field("arena-question").fill("Hi")
        await seen.click("Ask all")
        await seen.says("tok/s", "#arena-0 p")
        await seen.says("print(1)", "#arena-0 pre")
