"""The tab Chat."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ...support.browser import visit, words

EVIL = "<img src=x onerror=\"document.title='caught'\"><b>bold</b> ![p](http://evil.example/p.png)"


async def test_an_answer_streams_and_says_why_it_ended_and_the_way_to_do_it_in_a_terminal(tmp_path: Path):
    more = asyncio.Event()
    async with visit(tmp_path, words("Par", "is", more, "."), key="") as seen:
        await seen.field("chat-text").fill("What's the capital?")
        await seen.tab.keyboard.press("Enter")
        await seen.says("Paris", "#chat-messages")
        more.set()
        line = await seen.shows("chat-meter", "tok/s")
        assert line.startswith("it came to an end · 3 tokens")
        assert "context " in line
        assert await seen.shows("chat-command", "lqmf") == """lqmf chat m 'What'"'"'s the capital?'"""
        sent = seen.server.engines["m"].requests[0]
        assert [(turn.role, turn.content) for turn in sent.messages or ()] == [
            ("user", "What's the capital?")
        ]


async def test_stop_ends_the_answer_and_keeps_it_and_the_conversation_goes_on(tmp_path: Path):
    never = asyncio.Event()
    async with visit(tmp_path, words("One", " two", never)) as seen:
        await seen.field("chat-text").fill("Count")
        await seen.click("Send")
        await seen.says("One two", "#chat-messages")
        await seen.click("Stop")
        await seen.shows("chat-meter", "stopped by you")
        await seen.server.engines["m"].idle.wait()  # the model does not go on for nobody
        never.set()
        await seen.field("chat-text").fill("Go on")
        await seen.click("Send")
        await seen.shows("chat-meter", "came to an end")
        sent = seen.server.engines["m"].requests[1].messages or ()
        assert [turn.content for turn in sent] == ["Count", "One two", "Go on"]


async def test_html_of_a_model_is_text_and_its_pictures_are_not_fetched(tmp_path: Path):
    async with visit(tmp_path, words(EVIL)) as seen:
        await seen.field("chat-text").fill(EVIL)
        await seen.click("Send")
        await seen.shows("chat-meter", "tok/s")
        shown = await seen.tab.locator("#chat-messages").inner_text()
        assert shown.count("<b>bold</b>") == 2
        assert await seen.tab.title() != "caught"
        assert seen.hosts <= {"127.0.0.1", ""}
        sent = seen.server.engines["m"].requests[0].messages or ()
        assert [turn.content for turn in sent] == [EVIL]  # and the model is sent what was typed


async def test_a_server_error_is_shown_and_the_question_stays(tmp_path: Path):
    async with visit(tmp_path, max_memory_mb=1) as seen:
        await seen.field("chat-text").fill("Hi")
        await seen.click("Send")
        await seen.says("needs")
        await seen.says("Hi", "#chat-messages")
