"""One question, or a script, or what is piped in: answers are plain text on standard output."""

from __future__ import annotations

import contextlib
import sys

from ...config import ChatMode, PromptsConfig
from ...engine import EngineClient
from ...errors import UserInputError
from ...types import GenerationRequest, Message, SamplingParams
from .markdown import without_controls


class PlainChat:
    """A conversation that writes its answers to standard output as they come."""

    def __init__(self, engine: EngineClient, sampling: SamplingParams, system: str | None = None) -> None:
        self._engine = engine
        self._sampling = sampling
        self._messages = [Message("system", system)] if system else []

    async def answer(self, text: str) -> None:
        """Stream the answer to the next user turn. A turn that fails is not remembered."""
        turn = [*self._messages, Message("user", text)]
        parts = []
        async with contextlib.aclosing(self._engine.generate(self._request(turn))) as chunks:
            async for chunk in chunks:
                parts.append(chunk.text)
                sys.stdout.write(_shown(chunk.text))
                sys.stdout.flush()
        sys.stdout.write("\n")
        self._messages = [*turn, Message("assistant", "".join(parts))]

    def _request(self, turn: list[Message]) -> GenerationRequest:
        if not self._engine.info.chat_template:
            return GenerationRequest(prompt=turn[-1].content, sampling=self._sampling)
        return GenerationRequest(messages=tuple(turn), sampling=self._sampling)


async def play(chat: PlainChat, turns: list[str]) -> None:
    """Ask the turns of a script one after the other, and show them."""
    for turn in turns:
        print(f"› {turn}")
        await chat.answer(turn)
        print()


def script_turns(mode: ChatMode, prompts: PromptsConfig) -> list[str]:
    """The user's turns to play; none without a script.

    Raises:
        UserInputError: the prompt set has no such entry, or a message is given too.
    """
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


def _shown(text: str) -> str:
    """The text, without control characters if it goes to a terminal."""
    return without_controls(text) if sys.stdout.isatty() else text
