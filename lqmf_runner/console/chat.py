"""mode=chat: talk to a model in the terminal, or ask one question and leave."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from pathlib import Path

from rich.console import Console

from ..config import ChatMode, PromptsConfig, RunConfig
from ..engine import EngineClient, load_engine
from ..errors import InvalidRequestError, QueueFullError, RemoteEngineError, UserInputError
from ..models import locate
from ..types import Chunk, GenerationRequest, Message, SamplingParams

_HELP = "/reset starts over · /exit or Ctrl-D ends · Ctrl-C stops an answer"
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def run_chat(config: RunConfig) -> int:
    """Load the model and chat until the user ends it; with `mode.message` or `mode.script`, answer that and return.

    Answers and the turns of a script go to standard output, everything else to standard error.

    Raises:
        UserInputError: the prompt set has no such entry, or both are given.
    """
    mode = config.mode
    assert isinstance(mode, ChatMode)
    turns = _script(mode, config.prompts)
    notices = Console(stderr=True, highlight=False)
    spec = locate(config.model, config.backend, Path(config.models_dir))
    with asyncio.Runner() as runner:
        with notices.status(f"loading {spec.name}"):
            engine = runner.run(load_engine(spec))
        try:
            for note in engine.info.notes:
                notices.print(f"note: {note}", style="yellow", markup=False)
            system = mode.system or (config.prompts.system if mode.script is not None else None)
            chat = Chat(engine, mode.sampling.params, system)
            if mode.message is not None:
                runner.run(chat.answer(mode.message))
            elif turns:
                for turn in turns:
                    print(f"› {turn}")
                    runner.run(chat.answer(turn))
                    print()
            else:
                info = engine.info
                notices.print(
                    f"{info.name} · {info.method} · {info.n_ctx} tokens of context. {_HELP}", style="dim"
                )
                _talk(runner, chat, notices)
        finally:
            runner.run(engine.close())
    return 0


class Chat:
    """A conversation that remembers its turns."""

    def __init__(self, engine: EngineClient, sampling: SamplingParams, system: str | None = None) -> None:
        self._engine = engine
        self._sampling = sampling
        self._system = system
        self._messages: list[Message] = []
        self.last: Chunk | None = None
        self.reset()

    def reset(self) -> None:
        """Forget all turns but the system prompt."""
        self._messages = [Message("system", self._system)] if self._system else []

    async def answer(self, text: str) -> None:
        """Stream the answer to the next user turn to stdout. A turn that fails or is stopped is not remembered."""
        turn = [*self._messages, Message("user", text)]
        request = self._request(turn)
        parts = []
        async with contextlib.aclosing(self._engine.generate(request)) as chunks:
            async for chunk in chunks:
                parts.append(chunk.text)
                sys.stdout.write(_shown(chunk.text))
                sys.stdout.flush()
                self.last = chunk
        sys.stdout.write("\n")
        self._messages = [*turn, Message("assistant", "".join(parts))]

    def _request(self, turn: list[Message]) -> GenerationRequest:
        if not self._engine.info.chat_template:
            return GenerationRequest(prompt=turn[-1].content, sampling=self._sampling)
        return GenerationRequest(messages=tuple(turn), sampling=self._sampling)


def _shown(text: str) -> str:
    """The text, without control characters if it goes to a terminal."""
    return _CONTROLS.sub("", text) if sys.stdout.isatty() else text


def _script(mode: ChatMode, prompts: PromptsConfig) -> list[str]:
    """The user's turns to play; none without a script."""
    if mode.script is None:
        return []
    if mode.message is not None:
        raise UserInputError("mode.message and mode.script are both given", hint="give one of them")
    for entry in prompts.entries:
        if entry.id == mode.script:
            return entry.turns or [entry.prompt or ""]
    names = ", ".join(entry.id for entry in prompts.entries)
    raise UserInputError(
        f"the prompt set '{prompts.name}' has no entry '{mode.script}'", hint=f"choose one of: {names}"
    )


def _talk(runner: asyncio.Runner, chat: Chat, notices: Console) -> None:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 (line editing and history for input())
    while True:
        try:
            text = input("› ").strip()
        except (EOFError, KeyboardInterrupt):
            notices.print()
            return
        if text in ("/exit", "/quit"):
            return
        if text == "/reset":
            chat.reset()
        elif text.startswith("/"):
            notices.print(_HELP, style="dim")
        elif text:
            _turn(runner, chat, text, notices)


def _turn(runner: asyncio.Runner, chat: Chat, text: str, notices: Console) -> None:
    try:
        runner.run(chat.answer(text))
    except KeyboardInterrupt:
        notices.print("\n(stopped)", style="dim")
        return
    except InvalidRequestError as error:  # a conversation that outgrew the context can be started over
        notices.print(f"error: {error.message}. /reset starts over.", style="red", markup=False)
        return
    except (QueueFullError, RemoteEngineError) as error:  # may pass: the conversation is still there
        notices.print(f"error: {error.message}. Ask again to go on.", style="red", markup=False)
        return
    usage = chat.last.usage if chat.last else None
    if usage and usage.completion_tokens > 1 and usage.decode_s:
        speed = (usage.completion_tokens - 1) / usage.decode_s
        notices.print(f"{usage.completion_tokens} tokens, {speed:.0f} tok/s", style="dim")
