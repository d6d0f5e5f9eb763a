"""The tab Chat."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from lqmf_runner.errors import EngineLostError
from lqmf_runner.types import Chunk

from ...support.runs.versions import MemoryRegistry, in_memory, version
from ...support.screens.browser import visit, words

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
        await seen.tab.keyboard.press("Escape")  # as the button does
        await seen.shows("chat-meter", "stopped by you")
        await seen.server.engines["m"].idle.wait()  # the model does not go on for nobody
        never.set()
        await seen.field("chat-text").fill("Go on")
        await seen.click("Send")
        await seen.shows("chat-meter", "came to an end")
        sent = seen.server.engines["m"].requests[1].messages or ()
        assert [turn.content for turn in sent] == ["Count", "One two", "Go on"]


async def test_new_ends_the_answer_and_forgets_it_and_the_next_message_is_answered(tmp_path: Path):
    never = asyncio.Event()
    async with visit(tmp_path, words("One", " two", never)) as seen:
        await seen.field("chat-text").fill("Count")
        await seen.click("Send")
        await seen.says("One two", "#chat-messages")
        await seen.click("New")
        await seen.tab.get_by_text("Ask something").wait_for()
        await seen.server.engines["m"].idle.wait()  # the model does not go on for nobody
        never.set()
        await seen.field("chat-text").fill("Go on")
        await seen.click("Send")
        await seen.shows("chat-meter", "came to an end")
        await seen.says("One two", "#chat-messages")
        asked = [[turn.content for turn in one.messages or ()] for one in seen.server.engines["m"].requests]
        assert asked == [["Count"], ["Go on"]]


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


async def test_what_is_copied_of_an_answer_is_what_the_model_wrote(tmp_path: Path):
    async with visit(tmp_path, words(EVIL)) as seen:
        await seen.tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await seen.field("chat-text").fill("Hi")
        await seen.click("Send")
        await seen.shows("chat-meter", "tok/s")
        await seen.tab.locator("#chat-messages button[title*='opy' i]").last.click()
        await seen.tab.wait_for_function(
            "async (text) => await navigator.clipboard.readText() === text", arg=EVIL
        )


async def test_an_answer_that_breaks_off_is_kept_and_said_to_be(tmp_path: Path):
    more = asyncio.Event()
    async with visit(tmp_path, words("Half an", more, EngineLostError("the engine was lost"))) as seen:
        await seen.field("chat-text").fill("Hi")
        await seen.click("Send")
        await seen.says("Half an", "#chat-messages")
        more.set()
        await seen.shows("chat-meter", "broken off")
        await seen.says("Half an", "#chat-messages")


async def test_a_server_error_is_shown_and_the_question_stays(tmp_path: Path):
    async with visit(tmp_path, max_memory_mb=1) as seen:
        await seen.field("chat-text").fill("Hi")
        await seen.click("Send")
        await seen.says("needs")
        await seen.says("Hi", "#chat-messages")


async def test_thoughts_are_seen_while_they_last_and_are_not_part_of_the_conversation(tmp_path: Path):
    more = asyncio.Event()
    script = words(Chunk(reasoning="Let me "), Chunk(reasoning="<b>think"), more, "Paris.")
    async with visit(tmp_path, script) as seen:
        await seen.field("chat-text").fill("Where?")
        await seen.click("Send")
        await seen.shows("chat-meter", "thinking, 3 words")
        await seen.unfold("Thoughts before the last answer")
        await seen.says("Let me <b>think", "#chat-thoughts")
        more.set()
        await seen.shows("chat-meter", "came to an end")
        await seen.field("chat-text").fill("Sure?")
        await seen.click("Send")
        await seen.tab.locator("#chat-messages").get_by_text("Paris.").nth(1).wait_for()
        sent = seen.server.engines["m"].requests[1].messages or ()
        assert [turn.content for turn in sent] == ["Where?", "Paris.", "Sure?"]


async def test_a_version_is_asked_by_its_alias_and_the_answer_says_which_it_was(tmp_path: Path):
    registry = in_memory(MemoryRegistry(version("m", 1, "champion"), version("m", 2, "candidate")))
    async with visit(tmp_path, registry=registry, sizes={"m": 100.0, "m@2": 100.0}) as seen:
        await seen.choose("chat-model", "m@candidate")
        await seen.field("chat-text").fill("Hi")
        await seen.click("Send")
        line = await seen.shows("chat-meter", "· m@2")
        assert "context " in line
        assert await seen.shows("chat-command", "lqmf") == "lqmf chat m@candidate Hi"


async def test_a_visitor_who_leaves_ends_the_answer(tmp_path: Path):
    never = asyncio.Event()
    async with visit(tmp_path, words("One", never)) as seen:
        await seen.field("chat-text").fill("Count")
        await seen.click("Send")
        await seen.says("One", "#chat-messages")
        await seen.tab.close()
        async with asyncio.timeout(60):
            await seen.server.engines["m"].idle.wait()


async def test_enter_that_ends_a_word_of_an_input_method_does_not_send(tmp_path: Path):
    async with visit(tmp_path) as seen:
        await seen.field("chat-text").click()
        keyboard = await seen.tab.context.new_cdp_session(seen.tab)
        composing = {"text": "にほん", "selectionStart": 3, "selectionEnd": 3}
        await keyboard.send("Input.imeSetComposition", composing)
        enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229}
        await keyboard.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **enter})
        await keyboard.send("Input.insertText", {"text": "日本"})
        await keyboard.send("Input.dispatchKeyEvent", {"type": "keyUp", **enter})
        await seen.shows("chat-text", "日本")
        await seen.tab.keyboard.press("Enter")
        await seen.shows("chat-meter", "came to an end")
        (sent,) = seen.server.engines["m"].requests
        assert [turn.content for turn in sent.messages or ()] == ["日本"]


async def test_prices_are_no_formulas(tmp_path: Path):
    async with visit(tmp_path, words("It is $5, or $6 with \\(tax\\).")) as seen:
        await seen.field("chat-text").fill("How much?")
        await seen.click("Send")
        await seen.shows("chat-meter", "came to an end")
        await seen.says("It is $5, or $6 with (tax).", "#chat-messages")


async def test_a_reload_keeps_the_conversation_and_new_forgets_it(tmp_path: Path):
    async with visit(tmp_path, words("Paris", ".")) as seen:
        await seen.field("chat-text").fill("Where?")
        await seen.click("Send")
        await seen.shows("chat-meter", "came to an end")
        await seen.tab.reload()
        await seen.says("Paris.", "#chat-messages")
        await seen.shows("chat-model", "m")
        await seen.field("chat-text").fill("Sure?")
        await seen.click("Send")
        await seen.shows("chat-meter", "came to an end")
        sent = seen.server.engines["m"].requests[1].messages or ()
        assert [turn.content for turn in sent] == ["Where?", "Paris.", "Sure?"]
        await seen.click("New")
        await seen.tab.get_by_text("Ask something").wait_for()
        await seen.tab.reload()
        await seen.shows("chat-model", "m")
        await seen.tab.get_by_text("Ask something").wait_for()
        await seen.tab.evaluate("localStorage.setItem('lqmf-chat', 'torn')")
        await seen.tab.reload()
        await seen.shows("chat-model", "m")
        await seen.field("chat-text").fill("Where?")
        await seen.click("Send")
        await seen.shows("chat-meter", "came to an end")


async def test_an_empty_message_leaves_the_conversation_as_it_is(tmp_path: Path):
    async with visit(tmp_path, words("Paris", ".")) as seen:
        await seen.field("chat-text").fill("Where?")
        await seen.click("Send")
        await seen.shows("chat-meter", "came to an end")
        for nothing in ("", "  "):
            await seen.field("chat-text").fill(nothing)
            await seen.click("Send")
        await seen.field("chat-text").fill("Sure?")
        await seen.click("Send")
        await seen.tab.locator("#chat-messages").get_by_text("Paris.").nth(1).wait_for()
        asked = [[turn.content for turn in one.messages or ()] for one in seen.server.engines["m"].requests]
        assert asked == [["Where?"], ["Where?", "Paris.", "Sure?"]]


async def test_what_is_typed_after_a_message_stays_however_late_the_server_answers(tmp_path: Path):
    late = asyncio.Event()

    async def hold(route: Any) -> None:
        await late.wait()
        await route.continue_()

    async with visit(tmp_path, words("Paris", ".")) as seen:
        await seen.tab.route("**/queue/**", hold)
        await seen.field("chat-text").fill("Where?")
        await seen.tab.keyboard.press("Enter")
        # The browser empties the field, while the server has not heard of the message yet.
        await seen.tab.wait_for_function("document.querySelector('#chat-text textarea').value === ''")
        await seen.field("chat-text").fill("typed meanwhile")
        late.set()
        await seen.shows("chat-meter", "came to an end")
        assert await seen.field("chat-text").input_value() == "typed meanwhile"


async def test_a_message_waits_in_its_field_while_an_answer_is_under_way(tmp_path: Path):
    more = asyncio.Event()
    async with visit(tmp_path, words("Par", "is", more, ".")) as seen:
        await seen.field("chat-text").fill("Where?")
        await seen.tab.keyboard.press("Enter")
        await seen.says("Paris", "#chat-messages")
        await seen.field("chat-text").fill("Sure?")
        await seen.tab.keyboard.press("Enter")
        await seen.shows("chat-text", "Sure?")
        assert await seen.tab.locator("#chat-send").is_disabled()
        more.set()
        await seen.shows("chat-meter", "came to an end")
        await seen.shows("chat-text", "Sure?")
        await seen.click("Send")
        await seen.tab.locator("#chat-messages").get_by_text("Paris.").nth(1).wait_for()
        asked = [[turn.content for turn in one.messages or ()] for one in seen.server.engines["m"].requests]
        assert asked == [["Where?"], ["Where?", "Paris.", "Sure?"]]


async def test_escape_after_an_answer_does_not_say_that_it_was_stopped(tmp_path: Path):
    async with visit(tmp_path) as seen:
        await seen.field("chat-text").fill("Hi")
        await seen.tab.keyboard.press("Enter")
        await seen.shows("chat-meter", "came to an end")
        assert await seen.tab.locator("#chat-stop").is_disabled()
        await seen.tab.keyboard.press("Escape")
        await seen.field("chat-text").fill("Again")
        await seen.tab.keyboard.press("Enter")
        await seen.tab.locator("#chat-messages").get_by_text("Hello you").nth(1).wait_for()
        await seen.shows("chat-meter", "came to an end")


async def test_after_an_error_another_message_can_be_sent(tmp_path: Path):
    answers = iter([[EngineLostError("the engine was lost")], ["Back"]])
    async with visit(tmp_path, lambda request: next(answers)) as seen:
        await seen.field("chat-text").fill("Hi")
        await seen.click("Send")
        await seen.shows("chat-meter", "no answer")
        await seen.field("chat-text").fill("Again")
        await seen.click("Send")
        await seen.says("Back", "#chat-messages")


async def test_a_message_is_shown_copied_and_edited_as_it_was_typed(tmp_path: Path):
    typed = "def __init__(self, *args):\n    return 1\n# not a heading"
    answers = iter([["Fine."], ["Again."]])
    async with visit(tmp_path, lambda request: next(answers)) as seen:
        await seen.tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await seen.field("chat-text").fill(typed)
        await seen.tab.keyboard.press("Enter")
        await seen.shows("chat-meter", "came to an end")
        shown = await seen.tab.locator("#chat-messages [data-testid=user]").inner_text()
        assert shown.replace("\xa0", " ").strip() == typed
        await seen.tab.locator("#chat-messages button[title*='opy' i]").first.click()
        await seen.tab.wait_for_function(
            "async (text) => await navigator.clipboard.readText() === text", arg=typed
        )
        await seen.tab.locator("#chat-messages button[title='Edit']").click()
        await seen.tab.locator("#chat-messages button[title*='ubmit' i]").click()
        await seen.says("Again.", "#chat-messages")
        asked = [one.messages[-1].content for one in seen.server.engines["m"].requests if one.messages]
        assert asked == [typed, typed]


async def test_a_reload_during_an_answer_keeps_what_has_come(tmp_path: Path):
    never = asyncio.Event()
    async with visit(tmp_path, words("one two three " * 100, never)) as seen:
        await seen.field("chat-text").fill("Count")
        await seen.tab.keyboard.press("Enter")
        await seen.says("one two three", "#chat-messages")
        await seen.tab.wait_for_function("localStorage.getItem('lqmf-chat')?.length > 1400")
        await seen.tab.reload()
        await seen.says("one two three", "#chat-messages")
        await seen.server.engines["m"].idle.wait()  # the model does not go on for nobody
        assert await seen.tab.locator("#chat-stop").is_disabled()
