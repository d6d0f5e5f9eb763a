"""N-gram speculation: drafts of an answer's next tokens, found in the request's own tokens (prompt lookup).

An answer that quotes, edits or repeats what the request holds goes on as that text went on after the same last tokens.
The model verifies a draft in one step. A refused draft costs the rows that it added to the step, so a request whose
drafts are refused drafts less and less often.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

MOST_DRAFTING = 4  # requests that run or wait; with more of them a step is full without drafts
_NGRAMS = (3, 2)  # tokens that have to match, the longer match first
_FIRST_DRAFT, _LONGEST_DRAFT = 3, 12  # tokens
_FIRST_PAUSE, _LONGEST_PAUSE = 16, 512  # tokens


class NgramDrafter:
    """Drafts for one request.

    Attributes:
        drafted: tokens that the model had to verify.
        accepted: how many of them were the tokens that it chose.
    """

    def __init__(self) -> None:
        self.drafted = 0
        self.accepted = 0
        self._followers: dict[int, dict[tuple[int, ...], int]] = {n: {} for n in _NGRAMS}
        self._indexed = 0
        self._length = _FIRST_DRAFT
        self._pause = _FIRST_PAUSE
        self._resume_at = 0

    def propose(self, tokens: Sequence[int], most: int) -> Sequence[int]:
        """At most `most` tokens that may follow `tokens`, which only grow from call to call; often none."""
        if most < 1 or len(tokens) < self._resume_at:
            return ()
        self._index(tokens)
        for n in _NGRAMS if self.accepted else _NGRAMS[:1]:
            at = self._followers[n].get(tuple(tokens[-n:]))
            if at is not None:
                period = len(tokens) - at  # less than a draft where the answer repeats itself in short
                return [tokens[at + i % period] for i in range(min(most, self._length))]
        return ()

    def verified(self, n_drafted: int, n_accepted: int, n_tokens: int) -> None:
        """Adapt to the outcome of a draft; the request has `n_tokens` tokens now."""
        if n_accepted == n_drafted:
            self._length = min(2 * self._length, _LONGEST_DRAFT)
        else:
            self._length = max(n_accepted, _FIRST_DRAFT)
        if 2 * n_accepted >= n_drafted:  # a row can cost most of a step, as with llama.cpp on a CPU
            self._pause = _FIRST_PAUSE
        else:
            self._resume_at = n_tokens + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _index(self, tokens: Sequence[int]) -> None:
        """Note what followed each n-gram last. The one at the end is followed by nothing yet."""
        for n, followers in self._followers.items():
            new = tokens[max(self._indexed - n, 0) : -1]
            first = max(self._indexed - n, 0) + n
            followers.update(zip(zip(*(new[i:] for i in range(n)), strict=False), count(first), strict=False))
        self._indexed = len(tokens) - 1
