"""/compare: the last question, answered by another model."""

from __future__ import annotations

import contextlib

from ...engine import EngineClient
from ...errors import UserInputError
from ...types import Chunk
from .screen.answer_view import AnswerView
from .screen.markdown import without_controls
from .session import ChatSession


async def compare(session: ChatSession, name: str) -> None:
    """Show another model's answer to the last question, and where it differs. The conversation stays as it is.

    Raises:
        UserInputError: nothing has been asked yet.
        StoppedError, LqmfError: the other model did not answer.
    """
    turns = session.conversation.turns
    if not turns:
        raise UserInputError("there is no question yet", hint="ask one first, then compare")
    other = await session.load(name)
    try:
        session.note(f"{other.info.name} ({other.info.method}):")
        answer, last = await session.interruptible(_answer(session, other))
    finally:
        await other.close()
    usage = last.usage
    if usage and usage.decode_s and usage.completion_tokens > 1:
        speed = (usage.completion_tokens - 1) / usage.decode_s
        cut = ", cut at max_tokens" if last.finish_reason == "length" else ""
        session.note(f"{usage.completion_tokens} tokens, {speed:.0f} tok/s{cut}")
    session.note(difference(turns[-1].answer, answer, session.engine.info.name))
    if session.sampling.temperature > 0 and session.sampling.seed is None:
        session.note("Answers are drawn at random here: /set temperature 0 compares the most likely ones.")


async def _answer(session: ChatSession, other: EngineClient) -> tuple[str, Chunk]:
    asked = session.conversation.asked_again()
    view, parts, last = AnswerView(session.console), [], Chunk()
    request = asked.request(other.info, session.sampling.params)
    try:
        async with contextlib.aclosing(other.generate(request)) as chunks:
            async for chunk in chunks:
                parts.append(chunk.text)
                view.feed(without_controls(chunk.text))
                last = chunk
    finally:
        view.finish()
    return "".join(parts), last


def difference(ours: str, theirs: str, name: str) -> str:
    """The place where two answers differ, in words."""
    left, right = ours.split(), theirs.split()
    same = 0
    while same < min(len(left), len(right)) and left[same] == right[same]:
        same += 1
    if same == len(left) == len(right):
        return f"The answer is the same as that of {name}."
    if same == 0:
        return f"It differs from the answer of {name} from the first word on."
    return f"Its first {same} words are those of {name}; then: {_shown(left, same)} | {_shown(right, same)}"


def _shown(words: list[str], start: int) -> str:
    return " ".join(words[start : start + 5]) or "(end)"
