"""What the commands do to a chat, with engines that follow a script."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console

from lqmf_runner.config import SamplingConfig
from lqmf_runner.console.chat import saved
from lqmf_runner.console.chat.commands import COMMANDS, ChatCompleter, run_command
from lqmf_runner.console.chat.comparison import difference
from lqmf_runner.console.chat.screen.prompt import LeaveError
from lqmf_runner.console.chat.session import ChatSession
from lqmf_runner.console.chat.targets import Target
from lqmf_runner.engine import EngineClient
from lqmf_runner.errors import (
    ContextLengthError,
    EngineLostError,
    LqmfError,
    ModelNotFoundError,
    UserInputError,
)
from lqmf_runner.types import GenerationRequest
from tests.support.engine.scripted import INFO, Fail, Say, ScriptedEngine

Script = Callable[[int, GenerationRequest], Sequence[Say | Fail]]


class Models(Target):
    where = "here"

    def __init__(self, script: Script) -> None:
        self.script = script
        self.engines: list[ScriptedEngine] = []

    async def load(self, name: str | None = None) -> EngineClient:
        if name == "missing":
            raise ModelNotFoundError("there is no model missing")
        self.engines.append(ScriptedEngine(self.script, info=replace(INFO, name=name or "first")))
        return self.engines[-1]

    async def names(self) -> list[str]:
        return ["first", "second"]


class Chat:
    """A chat without a terminal."""

    def __init__(self, script: Script, **sampling: int) -> None:
        self.out = io.StringIO()
        self.target = Models(script)
        engine = ScriptedEngine(script, info=replace(INFO, name="first"))
        self.target.engines.append(engine)
        console = Console(file=self.out, width=300)
        self.session = ChatSession(self.target, engine, SamplingConfig(**sampling), None, console)

    async def say(self, *lines: str) -> str:
        """Give it lines, and return what it shows meanwhile. Errors are shown, as in the loop."""
        begin = len(self.out.getvalue())
        for line in lines:
            try:
                await (run_command(self.session, line) if line.startswith("/") else self.session.ask(line))
            except LqmfError as error:
                self.session.fail(error)
        return self.out.getvalue()[begin:]

    def sent(self, engine: int = -1) -> list[str | None]:
        return [m.content for m in self.target.engines[engine].requests[-1].messages or ()]

    @property
    def turns(self) -> list[tuple[str, str, str]]:
        return [(turn.user, turn.answer, turn.ended) for turn in self.session.conversation.turns]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LQMF_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state" / "chat"


def numbered(n: int, _: GenerationRequest) -> list[Say | Fail]:
    return [Say(0.0, f"answer {n}")]


async def test_a_cut_answer_is_said_to_be_cut_and_goes_on() -> None:
    chat = Chat(
        lambda n, _: [Say(0.0, ["one ", "two"][n], finish_reason=["length", "stop"][n])], max_tokens=7
    )
    assert "The answer is cut: max_tokens is 7. /continue goes on." in await chat.say("count")
    assert "cut at max_tokens" in chat.session.status()
    await chat.say("/continue")
    assert chat.turns == [("count", "one two", "stop")]
    assert chat.target.engines[0].requests[-1].continue_final_message
    assert "ended by itself" in chat.session.status()
    assert "no answer that was cut" in await chat.say("/continue")


async def test_turns_are_taken_back_changed_and_asked_again() -> None:
    chat = Chat(numbered)
    await chat.say("a", "b", "/retry")
    assert chat.turns == [("a", "answer 0", "stop"), ("b", "answer 2", "stop")]
    await chat.say("/edit c")
    assert chat.turns[-1] == ("c", "answer 3", "stop")
    assert chat.sent() == ["a", "answer 0", "c"]
    await chat.say("/edit")
    assert (chat.session.draft, len(chat.turns)) == ("c", 1)
    await chat.say("/retry")
    assert chat.turns[-1] == ("c", "answer 4", "stop")
    assert "taken back: c" in await chat.say("/undo")
    await chat.say("/reset")
    assert chat.turns == []
    assert "nothing to undo" in await chat.say("/undo")


async def test_settings_and_the_system_prompt_hold_from_the_next_answer_on() -> None:
    chat = Chat(numbered)
    await chat.say(
        "/system Be kind. Always.", "/set temperature 0.25", "/set parameter seed none", '/set stop "a b" c'
    )
    await chat.say("hi")
    request = chat.target.engines[0].requests[-1]
    assert chat.sent() == ["Be kind. Always.", "hi"]
    assert (request.sampling.temperature, request.sampling.seed) == (0.25, None)
    assert request.sampling.stop == ("a b", "c")
    assert "temperature = 0.25" in await chat.say("/set")
    await chat.say("/system none", "/set temperature default")
    await chat.say("hi")
    assert chat.sent()[0] == "hi"
    assert chat.session.sampling.temperature == 0.0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/foo", "there is no command /foo"),
        ("/modle x", "did you mean /model?"),
        ("/set temprature 1", "there is no setting 'temprature'"),
        ("/set temperature hot", "temperature cannot be 'hot'"),
        ("/set temperature 300", "temperature=300 is out of range"),
        ("/set max_tokens 1.5", "max_tokens cannot be '1.5'"),
        ("/model missing", "there is no model missing"),
        ("/compare", "say with which model"),
        ("/compare first", "there is no question yet"),
        ("/retry", "there is no question to ask again"),
        ("/edit", "there is no message to edit"),
        ("/save", "say under which name"),
        ("/save a\x1bb", "that is no name"),
        ("/load nobody", "cannot be read"),
        ("/file", "say which file"),
        ("/file /no/such", "is not a file"),
    ],
)
async def test_what_is_wrong_is_said_and_ends_nothing(line: str, said: str) -> None:
    chat = Chat(numbered)
    assert said in await chat.say(line)
    assert "answer 0" in await chat.say("hi")


async def test_the_model_changes_and_the_conversation_stays() -> None:
    chat = Chat(numbered)
    await chat.say("a", "/model second", "b")
    assert [engine.closed for engine in chat.target.engines] == [True, False]
    assert chat.sent() == ["a", "answer 0", "b"]
    await chat.say("/model missing")
    assert chat.session.engine is chat.target.engines[1]
    assert "* second" in await chat.say("/models")


async def test_another_model_is_asked_the_same() -> None:
    chat = Chat(numbered)
    await chat.say("a", "b")
    shown = await chat.say("/compare second")
    assert "Its first 1 words are those of first; then: 1 | 0" in shown
    assert chat.sent() == ["a", "answer 0", "b"]
    assert chat.target.engines[-1].closed
    assert len(chat.turns) == 2
    assert difference("x y", "x y", "m") == "The answer is the same as that of m."


async def test_a_conversation_is_kept_and_taken_up(state: Path) -> None:
    chat = Chat(numbered)
    await chat.say("/system Be kind.", "a", "/save mine")
    other = Chat(numbered)
    assert "1 turn, the last: a" in await other.say("/load mine")
    assert other.turns == chat.turns
    await other.say("b")
    assert other.sent() == ["Be kind.", "a", "answer 0", "b"]
    assert (state / "mine.json").stat().st_mode & 0o077 == 0
    assert "not saved" in await Chat(numbered).say("a", "/save mine")  # it is another's, and nobody says yes
    assert "1 turn, the last: a" in await Chat(numbered).say("/load last")
    await chat.say(f"/save {state / 'talk.md'}")
    assert (state / "talk.md").read_text().endswith("**You**\n\na\n\n**first**\n\nanswer 0\n")
    (state / "bad.json").write_text('{"kind": "x"}')
    assert "is not a saved conversation" in await chat.say("/load bad")


async def test_a_full_disk_leaves_what_was_saved(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = Chat(numbered)
    await chat.say("a", "/save mine")
    before = (state / "mine.json").read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(saved.os, "fsync", full)
    shown = await chat.say("b", "/save mine")
    assert "answer 1" in shown
    assert "cannot be written: No space left on device" in shown
    assert (state / "mine.json").read_bytes() == before
    assert [name for name in os.listdir(state) if "part" in name] == []


async def test_files_go_with_a_message(tmp_path: Path) -> None:
    chat = Chat(numbered)
    (tmp_path / "a b.txt").write_text("first\nsecond\n")
    (tmp_path / "c.bin").write_bytes(b"\0\xff")
    await chat.say(f"/file '{tmp_path}/a b.txt' What's in it?")
    assert chat.sent() == ["a b.txt:\n```\nfirst\nsecond\n```\n\nWhat's in it?"]
    assert "goes with the next message" in await chat.say(f"/file {tmp_path}/a b.txt")
    assert "1 file attached" in chat.session.status()
    await chat.say("And now?")
    assert (chat.sent()[-1] or "").endswith("```\n\nAnd now?")
    assert "is not text" in await chat.say(f"/file {tmp_path}/c.bin")


async def test_the_oldest_turns_go_when_the_context_is_full_and_that_is_said_once() -> None:
    def narrow(_: int, request: GenerationRequest) -> list[Say | Fail]:
        too_long = len(request.messages or ()) > 4
        return [Fail(0.0, ContextLengthError("too long"))] if too_long else [Say(0.0, "yes")]

    chat = Chat(narrow)
    shown = await chat.say("/system Be kind.", "a", "b", "c", "d", "e")
    assert shown.count("The context is full") == 1
    assert "The system prompt stays." in shown
    assert chat.sent() == ["Be kind.", "d", "yes", "e"]
    assert [user for user, _, _ in chat.turns] == list("abcde")


async def test_one_message_that_is_too_long_is_not_remembered() -> None:
    chat = Chat(
        lambda n, _: [Fail(0.0, ContextLengthError("the prompt is too long"))] if n == 0 else [Say(0.0, "ok")]
    )
    shown = await chat.say("long")
    assert "hint: shorten the message" in shown
    await chat.say("short")
    assert chat.sent() == ["short"]


async def test_a_failure_keeps_the_conversation_and_a_lost_model_is_loaded_again() -> None:
    def script(n: int, _: GenerationRequest) -> list[Say | Fail]:
        return (
            [Say(0.0, "half "), Fail(0.0, EngineLostError("the model's process died"))]
            if n == 1
            else [Say(0.0, "ok")]
        )

    chat = Chat(script)
    shown = await chat.say("a", "b")
    assert "error: the model's process died" in shown
    assert "What came of the answer is kept." in shown
    await chat.say("/continue")
    assert len(chat.target.engines) == 2
    assert chat.sent() == ["a", "ok", "b", "half "]
    assert chat.turns[-1] == ("b", "half ok", "stop")


async def test_stats_count_what_was_used() -> None:
    chat = Chat(numbered)
    shown = await chat.say("a", "b", "/stats")
    assert "answers    2 finished in" in shown
    assert "20 of prompts, 2 of answers" in shown
    assert "memory     200 MB" in shown


async def test_leaving_and_help() -> None:
    chat = Chat(numbered)
    shown = await chat.say("/?")
    assert all(f"/{name}" in shown for name in COMMANDS)
    chat.session.console.width = 50
    narrow = (await chat.say("/help")).splitlines()
    assert all(line[:1] in "/ " for line in narrow[: len(narrow) - 3])  # a meaning goes on below itself
    for line in ("/quit", "/exit", "/bye"):
        with pytest.raises(LeaveError):
            await run_command(chat.session, line)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("/mo", ["model", "models"]),
        ("/model s", ["second"]),
        ("/set max", ["max_tokens"]),
        ("hello /mo", []),
        ("/foo x", []),
    ],
)
async def test_commands_and_their_arguments_are_completed(typed: str, offered: list[str]) -> None:
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    chat = Chat(numbered)
    await chat.say("/models")
    completions = ChatCompleter(chat.session).get_completions(Document(typed), CompleteEvent())
    assert [completion.text for completion in completions] == offered


def test_a_name_never_leads_out_of_the_folder(state: Path) -> None:
    assert saved.place("a b") == state / "a b.json"
    assert saved.place("./x.json") == Path("x.json")
    with pytest.raises(UserInputError):
        saved.place("..")
