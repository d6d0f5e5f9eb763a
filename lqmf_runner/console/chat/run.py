"""mode=chat: load the model, then talk in the terminal, or answer what was given and end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

import msgspec

from ...config import ChatMode
from ...engine import EngineClient
from ...errors import UserInputError
from ...output import OutputConsole
from ...runs.context import RunContext
from .plain import PlainChat, constraint_of, play, script_turns
from .screen.keys import hidden_keys
from .targets import LocalModels, ServerModels, Target, serving


def run_chat(context: RunContext) -> int:
    """Talk until the user leaves; with `mode.message`, `mode.script` or piped input, answer that and end.

    Answers and the turns of a script go to standard output, everything else to standard error.

    Raises:
        UserInputError: the prompt set has no such entry, both are given, or there is nothing to answer.
    """
    mode = context.config.mode
    assert isinstance(mode, ChatMode)
    turns = script_turns(mode, context.config.prompts)
    constraint = constraint_of(mode)
    target = _target(context)
    talks = mode.message is None and not turns and not mode.json and constraint is None and _is_terminal()
    notices = OutputConsole(stderr=True, highlight=False)
    if isinstance(target, LocalModels) and (url := serving(context.config.model.name)):
        text = f"note: {url} has this model loaded; server.url={url} asks it, and loads no second copy"
        notices.print(text, style="yellow", markup=False, soft_wrap=True)
    with asyncio.Runner() as runner:
        hidden = hidden_keys() if talks else contextlib.nullcontext()
        with hidden, notices.status(f"loading {context.config.model.name}"):
            engine = runner.run(target.load())
        try:
            for note in engine.info.notes:
                notices.print(f"note: {note}", style="yellow", markup=False)
            system = mode.system or (context.config.prompts.system if turns else None)
            if talks:
                return runner.run(_talk(target, engine, mode, system))
            sampling = msgspec.structs.replace(mode.sampling.params, constraint=constraint)
            chat = PlainChat(engine, sampling, system)
            if turns:
                runner.run(play(chat, turns))
            else:  # piped input is read after the load: its writer works in the meantime
                message = _piped() if mode.message is None else mode.message
                runner.run(chat.answer(message, as_json=mode.json))
        finally:
            runner.run(engine.close())
    return 0


async def _talk(target: Target, engine: EngineClient, mode: ChatMode, system: str | None) -> int:
    from .loop import talk
    from .session import ChatSession

    try:
        await talk(ChatSession(target, engine, mode.sampling, system, OutputConsole(highlight=False)))
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    return 0


def _piped() -> str:
    if sys.stdin.isatty():
        print("Type a message; Ctrl-D at the beginning of a line ends it.", file=sys.stderr)
    message = sys.stdin.read().strip()
    if not message:
        raise UserInputError("there is no message on the standard input", hint="say mode.message=...")
    return message


def _target(context: RunContext) -> Target:
    url = context.config.server.url
    return ServerModels(url, context.config.model.name) if url else LocalModels(context)


def _is_terminal() -> bool:
    """Whether input and output are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
