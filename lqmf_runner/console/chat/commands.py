"""The slash commands of the chat."""

from __future__ import annotations

import dataclasses
import difflib
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from ...config import SamplingConfig
from ...errors import UserInputError
from . import saved
from .comparison import compare
from .screen.prompt import LeaveError
from .session import ChatSession
from .values import changed_setting, read_text_file, split_path

_SETTINGS = [field.name for field in dataclasses.fields(SamplingConfig) if field.name != "ignore_eos"]


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        argument: how its argument is shown in the help.
        run: takes the session and the argument, without blanks around it.
        complete: what the argument may be.
    """

    argument: str
    summary: str
    run: Callable[[ChatSession, str], Awaitable[None]]
    complete: Callable[[ChatSession], Iterable[str]] = lambda _: ()


def is_command(text: str) -> bool:
    """Whether a message is a command: it begins with a slash, and if it has several lines, with a command's name."""
    if not text.startswith("/") or text.startswith("//"):
        return False
    first = text[1:].split(maxsplit=1)[:1]
    return "\n" not in text or bool(first and _ALIASES.get(first[0], first[0]) in COMMANDS)


async def run_command(session: ChatSession, text: str) -> None:
    """Execute a line with a slash.

    Raises:
        UserInputError: there is no such command, or its argument is wrong.
        LeaveError: it ends the chat.
    """
    name, _, argument = text[1:].partition(" ")
    name = _ALIASES.get(name.strip(), name.strip())
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"did you mean /{close[0]}? " if close else ""
        raise UserInputError(
            f"there is no command /{name[:40]}",
            hint=f"{meant}/help lists them; // begins a message with a slash",
        )
    await COMMANDS[name].run(session, argument.strip())


async def _help(session: ChatSession, _: str) -> None:
    session.show_pairs({f"/{name} {each.argument}".rstrip(): each.summary for name, each in COMMANDS.items()})
    session.note(
        'Alt-Enter, """ or \\ at the end of a line: several lines. Ctrl-R searches what was typed. '
        "Ctrl-C stops an answer. Ctrl-D ends."
    )


async def _model(session: ChatSession, name: str) -> None:
    if not name:
        info = session.engine.info
        session.show(f"{info.name} · {info.method} · {session.target.where}")
        session.note("/model NAME changes to another; /models lists them. The conversation stays.")
        return
    await session.replace_engine(name)
    session.note(f"now talking to {session.engine.info.name} ({session.engine.info.method})")


async def _models(session: ChatSession, _: str) -> None:
    session.names = await session.target.names()
    for name in session.names:
        session.show(f"{'*' if name == session.engine.info.name else ' '} {name}")


async def _system(session: ChatSession, text: str) -> None:
    if not text:
        session.show(session.conversation.system or "There is no system prompt.")
        session.note("/system TEXT sets it; /system none removes it.")
        return
    session.conversation.system = None if text == "none" else text
    session.note("the system prompt is set; it holds from the next answer on")


async def _set(session: ChatSession, argument: str) -> None:
    name, _, value = argument.removeprefix("parameter ").strip().partition(" ")
    if name == "system":
        await _system(session, value.strip())
        return
    if not value:
        for setting in _SETTINGS if not name else [name]:
            session.show(f"{setting} = {getattr(session.sampling, setting, 'unknown')}")
        return
    session.sampling = changed_setting(session.sampling, name, value.strip(), _SETTINGS)
    session.note(f"{name} = {getattr(session.sampling, name)}")


async def _retry(session: ChatSession, _: str) -> None:
    if not session.can_ask_again:
        raise UserInputError("there is no question to ask again")
    await session.again()


async def _continue(session: ChatSession, _: str) -> None:
    turns = session.conversation.turns
    if not turns or not turns[-1].cut:
        raise UserInputError("there is no answer that was cut", hint="ask for more in a message")
    await session.go_on()


async def _edit(session: ChatSession, text: str) -> None:
    turn = session.take_back()
    if turn is None:
        raise UserInputError("there is no message to edit")
    if text:
        await session.ask(text)
    else:
        session.draft = turn.user
        session.note("send it changed; /retry asks it as it was")


async def _undo(session: ChatSession, _: str) -> None:
    turn = session.take_back()
    if turn is None:
        raise UserInputError("there is nothing to undo")
    session.note(f"taken back: {' '.join(turn.user.split())[:60]}")


async def _reset(session: ChatSession, _: str) -> None:
    session.conversation.reset()
    session.usage = None
    session.note("the conversation starts over; the system prompt stays")


async def _save(session: ChatSession, name: str) -> None:
    if not name:
        raise UserInputError("say under which name: /save NAME, or /save file.md for a text to read")
    path = saved.place(name)
    if path.exists() and path != session.saved_as and not await session.confirm(f"replace {path}?"):
        session.note("not saved")
        return
    saved.save(path, session.as_saved())
    session.saved_as = path
    session.note(f"saved: {path}")


async def _load(session: ChatSession, name: str) -> None:
    if not name:
        session.show("\n".join(saved.saved_names()) or "There are no saved conversations.")
        session.note("/load NAME takes one up.")
        return
    path = saved.place(name)
    session.take_up(saved.load(path))
    session.saved_as = path
    turns = session.conversation.turns
    last = " ".join(turns[-1].user.split())[:60] if turns else "none"
    session.note(f"{len(turns)} turn{'' if len(turns) == 1 else 's'}, the last: {last}")


async def _stats(session: ChatSession, _: str) -> None:
    totals, memory = session.totals, await session.engine.memory()
    speed = f", {totals.completion_tokens / totals.decode_s:.0f} tok/s" if totals.decode_s else ""
    session.show(f"model      {session.engine.info.name} ({session.engine.info.method})")
    session.show(f"answers    {totals.answers} finished in {(time.monotonic() - session.began) / 60:.1f} min")
    session.show(
        f"tokens     {totals.prompt_tokens} of prompts, {totals.completion_tokens} of answers{speed}"
    )
    if session.usage:
        wait = session.usage.queue_s + session.usage.prefill_s
        session.show(
            f"last       first token after {wait:.2f} s, {session.usage.cached_tokens} tokens reused"
        )
    if memory.rss_mb:
        session.show(f"memory     {memory.rss_mb:.0f} MB")


async def _compare(session: ChatSession, name: str) -> None:
    if not name:
        raise UserInputError("say with which model: /compare NAME", hint="/models lists them")
    await compare(session, name)


async def _file(session: ChatSession, argument: str) -> None:
    if not argument:
        raise UserInputError("say which file: /file PATH, or /file PATH and a question")
    path, question = split_path(argument)
    text = read_text_file(path)
    session.attached.append(f"{path.name}:\n```\n{text}\n```")
    if question:
        await session.ask(question)
    else:
        session.note(f"{path.name}, {len(text):,} characters, goes with the next message")


async def _quit(session: ChatSession, _: str) -> None:
    raise LeaveError


COMMANDS: dict[str, Command] = {
    "help": Command("", "this list", _help),
    "model": Command(
        "[NAME]", "show the model, or change it; the conversation stays", _model, lambda s: s.names
    ),
    "models": Command("", "list the models", _models),
    "system": Command("[TEXT]", "show or set the system prompt", _system),
    "set": Command("[NAME VALUE]", "show or set temperature, max_tokens, ...", _set, lambda _: _SETTINGS),
    "retry": Command("", "ask the last question again", _retry),
    "continue": Command("", "go on with an answer that was cut", _continue),
    "edit": Command("[TEXT]", "change the last message, and ask it", _edit),
    "undo": Command("", "take the last question and its answer back", _undo),
    "reset": Command("", "start over", _reset),
    "save": Command("NAME", "keep the conversation, under a name or in a file", _save),
    "load": Command("[NAME]", "take a kept conversation up", _load, lambda _: saved.saved_names()),
    "stats": Command("", "tokens, speed and memory of this chat", _stats),
    "compare": Command("NAME", "ask another model the last question", _compare, lambda s: s.names),
    "file": Command("PATH [TEXT]", "put a file before the next message", _file),
    "quit": Command("", "leave", _quit),
}
_ALIASES = {
    "?": "help",
    "exit": "quit",
    "bye": "quit",
    "clear": "reset",
    "new": "reset",
    "regenerate": "retry",
}


class ChatCompleter(Completer):
    """Completes commands and their arguments."""

    def __init__(self, session: ChatSession) -> None:
        self._session = session
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """See prompt_toolkit."""
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        name, blank, argument = text[1:].partition(" ")
        if not blank:
            for known, command in COMMANDS.items():
                if known.startswith(name):
                    yield Completion(known, -len(name), display=f"/{known}", display_meta=command.summary)
        elif name in ("file", "save", "load") and ("/" in argument or name == "file"):
            yield from self._paths.get_completions(Document(argument), complete_event)
        elif name in COMMANDS:
            for choice in COMMANDS[name].complete(self._session):
                if choice.startswith(argument):
                    yield Completion(choice, -len(argument))
