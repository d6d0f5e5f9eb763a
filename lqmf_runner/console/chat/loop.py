"""The loop of a chat: reads a line, and answers or executes it, until the user leaves."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from typing import Any

from ...errors import LqmfError
from . import saved
from .commands import ChatCompleter, is_command, run_command
from .screen.keys import hidden_keys, mark_pastes
from .screen.prompt import LeaveError, Prompt
from .session import ChatSession, StoppedError

_LEAVE = ("exit", "quit", "exit()", "quit()")


async def talk(session: ChatSession) -> None:
    """Talk until the user leaves. Ctrl-C stops the running answer, and never ends the chat.

    Raises:
        CancelledError: SIGTERM ends the program. The terminal is as it was before.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGINT, session.interrupt)
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    info = session.engine.info
    context = f" · {info.n_ctx} tokens of context" if info.n_ctx else ""
    session.note(f"{info.name} · {info.method} · {session.target.where}{context}. /help lists the commands.")
    with contextlib.suppress(LqmfError):
        session.names = await session.target.names()
    prompt = Prompt(saved.home() / "history", ChatCompleter(session), session.status, session.note)
    session.confirm = prompt.confirm
    try:
        with hidden_keys(), contextlib.suppress(LeaveError):
            while (text := await _next(prompt, session)) not in _LEAVE:
                await _guarded(session, _do(session, text))
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)
        await session.close()


async def _next(prompt: Prompt, session: ChatSession) -> str:
    draft, session.draft = session.draft, ""
    text = await prompt.ask(draft)
    mark_pastes()
    return text


async def _do(session: ChatSession, text: str) -> None:
    if is_command(text):
        await run_command(session, text)
    elif text or session.attached:
        await session.ask(text.removeprefix("/") if text.startswith("//") else text)


async def _guarded(session: ChatSession, work: Coroutine[Any, Any, None]) -> None:
    """Do what the user asked for; an error is shown and ends nothing."""
    try:
        await work
    except StoppedError:
        session.note("(stopped)")
    except LqmfError as error:
        session.fail(error)
