"""Judges with a rule instead of a model."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import msgspec

from lqmf_runner.types import GenerationRequest, OptionLogprobs
from tests.support.engine.scripted import INFO, ScriptedEngine

Rule = Callable[[str, int], Sequence[float]]  # (what is asked, number of options) -> their probabilities


class RuledJudge(ScriptedEngine):
    """Answers each decision by a rule, one after the other."""

    def __init__(self, rule: Rule) -> None:
        super().__init__(lambda *_: [], info=msgspec.structs.replace(INFO, name="judge", max_slots=1))
        self.asked: list[str] = []
        self._rule = rule

    async def option_logprobs(
        self, request: GenerationRequest, options: Sequence[Sequence[str]]
    ) -> OptionLogprobs:
        (message,) = request.messages or ()
        self.asked.append(message.content)
        values = self._rule(message.content, len(options))
        logs = tuple(math.log(value) if value else -math.inf for value in values)
        return OptionLogprobs(logprobs=logs, prompt_tokens=1, cached_tokens=0)


def answers_in(asked: str) -> list[str]:
    """The answers that a judge is shown."""
    return re.findall(
        r"^\[\w+ (?:FIRST |SECOND |)ANSWER\]\n(.*?)\n\[\w+ END\]$", asked, re.DOTALL | re.MULTILINE
    )


def by_length(asked: str, n: int) -> Sequence[float]:
    """The longer answer is better; a level a word."""
    lengths = [len(answer.split()) for answer in answers_in(asked)]
    if len(lengths) == 1:
        return [float(level == min(lengths[0], n - 1)) for level in range(n)]
    first, second = lengths
    return [0.8, 0.1, 0.1] if first > second else [0.1, 0.8, 0.1] if second > first else [0.1, 0.1, 0.8]


def always_first(asked: str, n: int) -> Sequence[float]:
    """Whatever stands first."""
    return [0.9, 0.1, 0.0] if n == 3 else [1 / n] * n
