"""One question, a script, or piped input: answers are plain text on standard output."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path

from ...config import ChatMode, PromptsConfig
from ...engine import EngineClient
from ...errors import UserInputError
from ...types import Constraint, GenerationRequest, Message, SamplingParams
from .screen.markdown import without_controls


class PlainChat:
    """A conversation that writes its answers to standard output as they come."""

    def __init__(self, engine: EngineClient, sampling: SamplingParams, system: str | None = None) -> None:
        self._engine = engine
        self._sampling = sampling
        self._messages = [Message("system", system)] if system else []

    async def answer(self, text: str, *, as_json: bool = False) -> None:
        """Stream the answer to the next user turn, or print it whole. A turn that fails is not remembered.

        Args:
            as_json: print an object with the answer, its tokens, its times in seconds and why it ended.
        """
        turn = [*self._messages, Message("user", text)]
        parts = []
        began, first = time.perf_counter(), None
        usage, reason = None, None
        async with contextlib.aclosing(self._engine.generate(self._request(turn))) as chunks:
            async for chunk in chunks:
                first = first or time.perf_counter()
                parts.append(chunk.text)
                usage, reason = chunk.usage or usage, chunk.finish_reason or reason
                if not as_json:
                    sys.stdout.write(_shown(chunk.text))
                    sys.stdout.flush()
        answer = "".join(parts)
        if as_json:
            ended = time.perf_counter()
            found = {
                "answer": answer,
                "model": self._engine.info.name,
                "prompt_tokens": usage.prompt_tokens if usage else None,
                "completion_tokens": usage.completion_tokens if usage else None,
                "time_to_first_token_s": None if first is None else round(first - began, 4),
                "time_s": round(ended - began, 4),
                "finish_reason": reason,
            }
            sys.stdout.write(json.dumps(found, ensure_ascii=False))
        sys.stdout.write("\n")
        self._messages = [*turn, Message("assistant", answer)]

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


def constraint_of(mode: ChatMode) -> Constraint | None:
    """What the answer must match; None if it may be anything.

    Raises:
        UserInputError: the schema cannot be read, or nothing is asked that it could be for.
    """
    if mode.schema is None:
        return None
    if mode.script is not None:
        raise UserInputError("mode.schema is for one message, not for a script", hint="leave one of them out")
    try:
        schema = json.loads(Path(mode.schema).expanduser().read_bytes())
    except OSError as error:
        raise UserInputError(f"mode.schema={mode.schema} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserInputError(f"mode.schema={mode.schema} is not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise UserInputError(f"mode.schema={mode.schema} is not a JSON schema: it has to be an object")
    return Constraint("json_schema", json.dumps(schema))


def _shown(text: str) -> str:
    """The text, without control characters if it goes to a terminal."""
    return without_controls(text) if sys.stdout.isatty() else text
