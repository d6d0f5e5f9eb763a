"""The probability of each of several options as the beginning of an answer: which tokens to ask for, and the sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from ..errors import InvalidRequestError
from ..types import NextTokenLogprobs, OptionLogprobs


class PreparedOptions(msgspec.Struct, frozen=True):
    """The tokens of a prompt, and for each option the token sequences that stand for it."""

    prompt: list[int]
    options: list[list[list[int]]]

    def contexts(self) -> list[tuple[list[int], list[int]]]:
        """Where next-token scores are needed: (context tokens, tokens of interest after them), the prompt first."""
        wanted: dict[tuple[int, ...], set[int]] = {(): set()}
        for sequence in self._sequences():
            for i, token in enumerate(sequence):
                wanted.setdefault(tuple(sequence[:i]), set()).add(token)
        return [([*self.prompt, *prefix], sorted(tokens)) for prefix, tokens in wanted.items()]

    def combine(
        self, contexts: Sequence[tuple[list[int], list[int]]], answers: Sequence[NextTokenLogprobs]
    ) -> OptionLogprobs:
        """log Σ over an option's sequences of Π p(token | prompt, tokens before it)."""
        start = len(self.prompt)
        scores = {
            (*tokens[start:], candidate): logprob
            for (tokens, candidates), answer in zip(contexts, answers, strict=True)
            for candidate, logprob in zip(candidates, answer.logprobs, strict=True)
        }
        values = (
            [sum(scores[tuple(s[: i + 1])] for i in range(len(s))) for s in sequences]
            for sequences in self.options
        )
        return OptionLogprobs(
            logprobs=tuple(log_sum(v) for v in values),
            prompt_tokens=start,
            cached_tokens=answers[0].cached_tokens,
        )

    def _sequences(self) -> list[list[int]]:
        return [sequence for sequences in self.options for sequence in sequences]


def encode_options(
    options: Sequence[Sequence[str]], encode: Callable[[str], list[int]]
) -> list[list[list[int]]]:
    """Token sequences of each option: all its forms that are one token, otherwise its first form.

    Raises:
        InvalidRequestError: an option has no tokens, or two have one in common.
    """
    encoded = []
    taken: dict[tuple[int, ...], str] = {}
    for forms in options:
        sequences = [encode(form) for form in forms]
        single = [s for s in sequences if len(s) == 1]
        chosen = {tuple(s) for s in single or sequences[:1]}
        for sequence in chosen:
            if not sequence or sequence in taken:
                other = "nothing" if not sequence else f"'{taken[sequence]}'"
                raise InvalidRequestError(f"the option '{forms[0]}' is the same as {other} to this model")
            taken[sequence] = forms[0]
        encoded.append([list(s) for s in sorted(chosen)])
    return encoded


def log_sum(values: Sequence[float]) -> float:
    """log Σ exp(values); -inf for none."""
    top = max(values, default=-math.inf)
    return top if math.isinf(top) else top + math.log(sum(math.exp(v - top) for v in values))
