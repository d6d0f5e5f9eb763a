"""The chat in a real terminal, beside an endpoint whose answers are known."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.engine.endpoint import RecordingEndpoint, serve
from tests.support.screens.terminal import Terminal, needs_tmux, open_terminal

pytestmark = needs_tmux


@contextmanager
def chat(
    folder: Path,
    endpoint: RecordingEndpoint,
    *more: str,
    columns: int = 80,
    env: dict[str, str] | None = None,
) -> Iterator[Terminal]:
    arguments = ("mode=chat", "model=openai", f"server.url={endpoint.url}", "model.name=m", *more)
    with open_terminal(folder, *arguments, columns=columns, env=env) as terminal:
        terminal.wait_for("›")
        yield terminal


def answered(terminal: Terminal, text: str) -> str:
    """The screen when this text stands on it and the next prompt below."""
    return terminal.wait_for(lambda screen: "›" in screen.rpartition(text)[2] and text in screen)


def test_typing_pasting_and_leaving(tmp_path: Path) -> None:
    with serve(lambda prompt: f"I heard **{len(prompt.splitlines())}** lines.") as endpoint:
        with chat(tmp_path, endpoint) as terminal:
            terminal.paste("Translate this:\nhello\nworld")
            terminal.press("Enter")
            answered(terminal, "I heard 3 lines.")
            terminal.enter('"""')
            terminal.enter("a")
            terminal.enter('b"""')
            answered(terminal, "I heard 2 lines.")
            terminal.type("first")
            terminal.press("M-Enter")
            terminal.enter("second")
            answered(terminal, "second\nI heard 2 lines.")
            terminal.enter("back\\")
            terminal.enter("slash")
            answered(terminal, "slash\nI heard 2 lines.")
            terminal.press("C-c")
            answered(terminal, "Ctrl-D or /quit ends the chat.")
            terminal.paste("/api/chat gave\n404\nwhy?\nhelp")
            terminal.press("Enter")
            answered(terminal, "I heard 4 lines.")
            terminal.enter('"""/quit"""')
            answered(terminal, "I heard 1 lines.")
            terminal.enter("/foo")
            answered(terminal, "there is no command /foo")
            terminal.press("C-d")
            terminal.wait_for("exit code 0.")
        assert endpoint.asked == [
            *("Translate this:\nhello\nworld", "a\nb", "first\nsecond", "back\nslash"),
            *("/api/chat gave\n404\nwhy?\nhelp", "/quit"),
        ]
        with chat(tmp_path, endpoint) as terminal:
            terminal.press("Up")
            terminal.wait_for("› /foo")
            terminal.press("C-r")
            terminal.type("Transl")
            terminal.wait_for("world")
            terminal.press("Enter")
            terminal.press("Enter")
            terminal.wait_for("I heard 3 lines.")
            terminal.enter("exit")
            terminal.wait_for("exit code 0.")
    assert endpoint.asked[-1] == endpoint.asked[0]


def test_an_answer_is_stopped_and_the_conversation_goes_on(tmp_path: Path) -> None:
    stopped = threading.Event()

    def answer(prompt: str) -> str | Iterable[str]:
        return endless() if prompt == "count" else "all right"

    def endless() -> Iterator[str]:
        yield "one two "
        stopped.wait(60)
        yield "three"

    with serve(answer) as endpoint, chat(tmp_path, endpoint) as terminal:
        terminal.enter("count")
        terminal.wait_for("one two")
        terminal.type("typed meanwhile")
        terminal.press("C-c")
        screen = terminal.wait_for("(stopped) /continue goes on")
        assert "one two\n" in screen
        stopped.set()
        terminal.press("C-u")
        terminal.enter("go on")
        answered(terminal, "all right")
        assert [m["content"] for m in endpoint.bodies[-1]["messages"]] == ["count", "one two ", "go on"]
        terminal.enter("/undo")
        answered(terminal, "taken back: go on")
        terminal.enter("/continue")
        terminal.wait_for(lambda _: len(endpoint.bodies) == 3)
        assert endpoint.bodies[-1]["continue_final_message"] is True


def test_what_is_pasted_during_an_answer_is_one_message(tmp_path: Path) -> None:
    pasted = threading.Event()

    def answer(prompt: str) -> str | Iterable[str]:
        return slow() if prompt == "count" else f"I heard {len(prompt.splitlines())} lines."

    def slow() -> Iterator[str]:
        yield "one two "
        pasted.wait(60)
        yield "three"

    with serve(answer) as endpoint, chat(tmp_path, endpoint) as terminal:
        terminal.enter("count")
        terminal.wait_for("one two")
        terminal.paste("first\nsecond\nthird")
        pasted.set()
        answered(terminal, "one two three")
        terminal.wait_for("third")
        terminal.press("Enter")
        answered(terminal, "I heard 3 lines.")
        assert endpoint.asked == ["count", "first\nsecond\nthird"]


def test_words_are_wrapped_and_survive_a_resize(tmp_path: Path) -> None:
    words = [f"word{n}" for n in range(60)]
    resized = threading.Event()

    def pieces(_: str) -> Iterator[str]:
        yield " ".join(words[:30]) + " "
        resized.wait(60)
        yield " ".join(words[30:])

    stale = {"COLUMNS": "80", "LINES": "24"}  # a shell's, which do not follow the terminal
    with serve(pieces) as endpoint, chat(tmp_path, endpoint, columns=80, env=stale) as terminal:
        terminal.enter("go")
        terminal.wait_for("word29")
        terminal.resize(60, 24)
        resized.set()
        terminal.wait_for("word59")
        screen = terminal.wait_for("ended by itself")
        assert re.findall(r"word\S+", screen) == words


def test_wide_characters_are_drawn_once(tmp_path: Path) -> None:
    words = [f"word{n}你好🙂" for n in range(40)]
    with serve(lambda _: (f"{word} " for word in words)) as endpoint, chat(tmp_path, endpoint) as terminal:
        terminal.enter("go")
        screen = terminal.wait_for("ended by itself")
        assert re.findall(r"word\S+", screen) == words


def test_an_answer_steers_nothing(tmp_path: Path) -> None:
    bad = "red \x1b[31m &#27;[2J \x1b]0;title\x07 \x9b2J <script>alert(1)</script>\n\n# Heading\n\n- a \x1b[2J point"
    with serve(lambda _: bad) as endpoint, chat(tmp_path, endpoint) as terminal:
        terminal.enter("go")
        screen = terminal.wait_for("point")
        assert "red [31m &#27;[2J ]0;title 2J <script>alert(1)</script>" in screen
        assert "/help lists the commands" in screen  # nothing was cleared


def test_a_server_that_goes_away_in_mid_answer(tmp_path: Path) -> None:
    def pieces(prompt: str) -> str | Iterable[str]:
        return broken() if prompt == "break" else "here again"

    def broken() -> Iterator[str]:
        yield "half an "
        raise ConnectionError("gone")

    with serve(pieces) as endpoint, chat(tmp_path, endpoint) as terminal:
        terminal.enter("break")
        answered(terminal, "What came of the answer is kept.")
        assert "half an" in terminal.screen()
        terminal.enter("still there?")
        terminal.wait_for("here again")
        assert [m["content"] for m in endpoint.bodies[-1]["messages"]] == [
            "break",
            "half an ",
            "still there?",
        ]


def test_large_and_binary_pastes_and_an_end_from_outside(tmp_path: Path) -> None:
    large = "line of text\n" * 80_000  # 1 MB
    with serve(lambda prompt: f"{len(prompt)} characters") as endpoint, chat(tmp_path, endpoint) as terminal:
        terminal.paste(large)
        terminal.wait_for("[paste 1: 1,040,000 characters]")
        terminal.press("Enter")
        answered(terminal, f"{len(large) - 1} characters")
        terminal.paste("a\x01b\x1b[2Jc\x07\x9bd")
        terminal.press("Enter")
        answered(terminal, "7 characters")
        assert endpoint.asked[-1] == "ab[2Jcd"
        terminal.type("/mo")
        terminal.wait_for("/models")
        terminal.press("C-c")
        terminal.press("Up")  # what was cleared is not lost
        terminal.wait_for("› /mo")
        terminal.press("C-c")
        terminal.resize(60, 24)
        terminal.enter("still here")
        answered(terminal, "10 characters")
        terminal.terminate()
        terminal.wait_for("exit code 143.")
        terminal.enter("echoed again")
        terminal.wait_for("echoed again")
