"""N-gram speculation: drafts of an answer's next tokens, found in the request's own tokens (prompt lookup).

An answer that quotes, edits or repeats what the request holds goes on as that text went on after the same last tokens.
The model verifies a draft in one step. Its length is what promises the most tokens a second, by how often such drafts
were right in this request and by what steps cost on this machine; often it is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from .step_costs import StepCosts, least_gain, slows_others

_NGRAM = 3  # tokens that have to match before a text is followed
_LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # of a draft, in tokens
_PRIOR_TRIALS = 4.0  # what was known before weighs, beside what was seen
_MOST_TRIALS = 64.0  # older ones count less


class Outcomes:
    """How often runs of so many matches went on, in buckets of powers of two.

    Args:
        before: what is believed before anything is seen; without it Laplace's rule of succession,
            (run + 1) / (run + 2).
    """

    def __init__(self, before: Outcomes | None = None) -> None:
        self._before = before
        self._seen: dict[int, tuple[float, float]] = {}  # matches, trials

    def note(self, run: int, matches: bool) -> None:
        """Take in whether a run of matches went on."""
        hits, trials = self._seen.get(run.bit_length(), (0.0, 0.0))
        if trials >= _MOST_TRIALS:
            hits, trials = hits / 2, trials / 2
        self._seen[run.bit_length()] = hits + matches, trials + 1
        if self._before is not None:
            self._before.note(run, matches)

    def chance(self, run: int) -> float:
        """That a run of so many matches goes on."""
        hits, trials = self._seen.get(run.bit_length(), (0.0, 0.0))
        prior = (run + 1) / (run + 2) if self._before is None else self._before.chance(run)
        return (hits + _PRIOR_TRIALS * prior) / (trials + _PRIOR_TRIALS)


class NgramDrafter:
    """Drafts for one request.

    It follows an earlier place of the request's tokens for as long as the new ones repeat it, with drafts or without.
    So it learns at no cost how likely a run of matches goes on.

    Args:
        before: what other requests have shown of that.

    Attributes:
        drafted: tokens that the model had to verify.
        accepted: how many of them were the tokens that it chose.
    """

    def __init__(self, before: Outcomes | None = None) -> None:
        self.drafted = 0
        self.accepted = 0
        self._followers: dict[tuple[int, ...], int] = {}
        self._indexed = 0  # tokens whose follower is known
        self._source = 0  # the place of the token that is expected next; 0: none is
        self._run = 0  # matches in a row
        self._outcomes = Outcomes(before)

    def propose(
        self, tokens: Sequence[int], most: int, n_rows: int, costs: StepCosts, n_drafted: int = 0
    ) -> Sequence[int]:
        """A draft of at most `most` tokens that may follow `tokens`, or none.

        Args:
            tokens: of the request; they only grow from call to call.
            n_rows: of the step without drafts.
            costs: of steps.
            n_drafted: tokens of the step's other drafts.
        """
        self._follow(tokens)
        if not self._source or most < 1:
            return ()
        length = self._best_length(most, n_rows, costs, n_drafted)
        period = len(tokens) - self._source  # less than a draft where the answer repeats itself in short
        return [tokens[self._source + i % period] for i in range(length)]

    def _follow(self, tokens: Sequence[int]) -> None:
        """Compare the new tokens with the place that is followed; without one, look for one."""
        for at in range(self._indexed, len(tokens)) if self._source else ():
            matches = tokens[self._source] == tokens[at]
            self._outcomes.note(self._run, matches)
            if not matches:
                self._source = 0
                break
            self._source += 1
            self._run += 1
        self._index(tokens)
        if not self._source:
            self._source = self._followers.get(tuple(tokens[-_NGRAM:]), 0)
            self._run = self._matches_before(tokens) if self._source else 0

    def _index(self, tokens: Sequence[int]) -> None:
        """Note what followed each n-gram last. The one at the end is followed by nothing yet."""
        start = max(self._indexed - _NGRAM, 0)
        new = tokens[start:-1]
        grams = zip(*(new[i:] for i in range(_NGRAM)), strict=False)
        self._followers.update(zip(grams, count(start + _NGRAM), strict=False))
        self._indexed = len(tokens)

    def _matches_before(self, tokens: Sequence[int]) -> int:
        """How many tokens before the expected one are those at the end."""
        n, most = _NGRAM, min(self._source, 2 * _LENGTHS[-1])
        while n < most and tokens[self._source - 1 - n] == tokens[-1 - n]:
            n += 1
        return n

    def _best_length(self, most: int, n_rows: int, costs: StepCosts, n_drafted: int) -> int:
        """The length with the most expected tokens a second, 0 if none gains enough."""
        best, best_rate = 0, least_gain(n_rows - 1) * n_rows / costs.of(n_rows)
        expected, chance, run = float(n_rows), 1.0, self._run
        for length in _LENGTHS:
            if length > most or (n_rows > 1 and slows_others(n_rows, n_drafted + length, costs)):
                break
            while run < self._run + length:
                chance *= self._outcomes.chance(run)
                expected += chance
                run += 1
            rate = expected / costs.of(n_rows + length)
            if rate > best_rate:
                best, best_rate = length, rate
        return best
