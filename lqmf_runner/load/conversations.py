"""Conversations: what the users of a load send, made from a prompt set."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..config import PromptsConfig
from ..errors import UserInputError


@dataclass(frozen=True)
class Conversation:
    """What one user works through: the user's turns in order, each of them one request.

    Attributes:
        plain: send the only turn as it is, without the chat template.
        output_tokens: make answers of exactly so many tokens, past the end of sequence if need be.
    """

    id: str
    turns: tuple[str, ...]
    system: str | None = None
    plain: bool = False
    output_tokens: int | None = None


def prompt_conversations(prompts: PromptsConfig) -> list[Conversation]:
    """Each entry of a prompt set once.

    Raises:
        UserInputError: the set is empty, or an entry has neither a prompt nor turns.
    """
    check_prompts(prompts)
    return [
        Conversation(entry.id, tuple(entry.turns or [entry.prompt or ""]), prompts.system)
        for entry in prompts.entries
    ]


def cycle_conversations(
    conversations: Sequence[Conversation], requests: int | None
) -> Iterator[Conversation]:
    """The conversations repeated until they make `requests` requests; without end for None.

    A conversation of several turns makes as many requests; the last one is cut where the number is reached.
    """
    for conversation in itertools.cycle(conversations):
        if requests is None:
            yield conversation
            continue
        if requests <= 0:
            return
        yield replace(conversation, turns=conversation.turns[:requests])
        requests -= len(conversation.turns)


def check_prompts(prompts: PromptsConfig) -> None:
    """Refuse a prompt set that cannot be run.

    Raises:
        UserInputError: the set is empty, or an entry has neither a prompt nor turns.
    """
    if not prompts.entries:
        raise UserInputError(
            f"the prompt set {prompts.name!r} is empty",
            hint="give it entries, or choose another set with prompts=<name>",
        )
    for entry in prompts.entries:
        if not any(text.strip() for text in entry.turns or [entry.prompt or ""]):
            raise UserInputError(
                f"entry {entry.id!r} of the prompt set {prompts.name!r} is empty",
                hint="give it a `prompt`, or `turns` for a conversation",
            )
