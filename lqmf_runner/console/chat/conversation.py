"""A conversation: its turns, the request for the next answer, and what of it fits into the context."""

from __future__ import annotations

import msgspec

from ...types import GenerationRequest, Message, ModelInfo, SamplingParams, Usage

STOPPED, BROKEN = "stopped", "broken off"
_RESERVED = 4  # a quarter of the context, at most, stays free for the answer
# Of the context. Many turns are dropped at once, because each time the whole prompt is computed again.
_REFILL = 2 / 3
_FIRST_GUESS = 0.3  # tokens per character, until the model has counted a prompt


class Turn(msgspec.Struct, omit_defaults=True):
    """A question and its answer.

    Attributes:
        ended: why the answer ends: "stop", "length", "stopped" (by the user) or "broken off" (by an error).
        thoughts: what a model thought before its answer, where an endpoint sends that apart.
    """

    user: str
    answer: str = ""
    ended: str = ""
    thoughts: str = ""

    @property
    def cut(self) -> bool:
        """Whether the answer could go on."""
        return self.ended in ("length", STOPPED, BROKEN)


class Conversation:
    """The turns of a chat. Old turns are left out of requests when the context is full, but they stay in the
    conversation.
    """

    def __init__(self, system: str | None = None) -> None:
        self.system = system
        self.turns: list[Turn] = []
        self.first = 0
        """The first turn that is sent."""
        self._tokens_per_character = _FIRST_GUESS

    def reset(self) -> None:
        """Delete all turns."""
        self.turns, self.first = [], 0

    def undo(self) -> Turn | None:
        """Remove the last turn, and return it."""
        turn = self.turns.pop() if self.turns else None
        self.first = min(self.first, len(self.turns))
        return turn

    def asked_again(self) -> Conversation:
        """The same conversation before the last answer."""
        other = Conversation(self.system)
        other.turns = [*self.turns[:-1], Turn(user=self.turns[-1].user)]
        other.first = self.first
        return other

    def request(self, info: ModelInfo, sampling: SamplingParams) -> GenerationRequest:
        """The request for the answer to the last turn, or for the rest of it if it has one already."""
        last = self.turns[-1]
        if not info.chat_template:
            return GenerationRequest(prompt=last.user + last.answer, sampling=sampling)
        messages = [Message("system", self.system)] if self.system else []
        for turn in self.turns[self.first : -1]:
            messages += [Message("user", turn.user), Message("assistant", turn.answer)]
        messages.append(Message("user", last.user))
        if not last.answer:
            return GenerationRequest(messages=tuple(messages), sampling=sampling)
        messages.append(Message("assistant", last.answer))
        return GenerationRequest(
            messages=tuple(messages),
            sampling=sampling,
            add_generation_prompt=False,
            continue_final_message=True,
        )

    def make_room(self, n_ctx: int, max_tokens: int | None) -> int:
        """Leave out the oldest turns if the prompt and an answer would not fit; return how many.

        Args:
            n_ctx: tokens of the context; 0 where that is not known.
            max_tokens: longest answer; None is as long as fits.
        """
        room = n_ctx - min(max_tokens or n_ctx, n_ctx // _RESERVED)
        if not n_ctx or self.tokens() <= room:
            return 0
        before = self.first
        while self.first < len(self.turns) - 1 and self.tokens() > room * _REFILL:
            self.first += 1
        return self.first - before

    def drop_half(self) -> int:
        """Leave out the older half of the turns before the last; return how many."""
        dropped = -(-(len(self.turns) - 1 - self.first) // 2)
        self.first += dropped
        return dropped

    def tokens(self) -> int:
        """About how many tokens the next prompt has."""
        return round(self._characters() * self._tokens_per_character)

    def counted(self, usage: Usage) -> None:
        """Take what the model has counted for the prompt that was sent last, before its answer is added."""
        if usage.prompt_tokens and (characters := self._characters()):
            self._tokens_per_character = usage.prompt_tokens / characters

    def _characters(self) -> int:
        turns = self.turns[self.first :]
        return len(self.system or "") + sum(len(turn.user) + len(turn.answer) for turn in turns)
