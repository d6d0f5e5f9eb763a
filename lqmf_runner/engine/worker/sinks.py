"""Row sinks: they receive the logits of a token sequence that is scored, not generated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ...types import NextTokenLogprobs, Score
from .sampling import Logits, log_sum_exp, nan_error, token_logprob

_SCORE_CHUNK = 128
_WHOLE_STEP = 1 << 30


class RowSink(Protocol):
    """Receives the rows of logits of one request as the scheduler computes them.

    Attributes:
        first_row: position of the first token whose next-token logits are wanted; all after it are wanted too.
        chunk: most tokens of the request in one step, which bounds the rows that exist at a time.
        can_share: the request may take cached tokens of others, and they of its own.
    """

    first_row: int
    chunk: int
    can_share: bool

    def take(self, start: int, rows: Logits) -> None:
        """The logits after the tokens at positions start, start + 1, ...; valid during the call.

        Raises:
            LqmfError: ends the request.
        """

    def result(self, n_cached: int) -> Any:
        """The answer to the request, after all rows were taken. `n_cached` of its tokens were reused."""


class ScoreSink:
    """Keeps the log-probability of every token: the sink of `EngineClient.score`.

    Args:
        n_top: how many of the most likely tokens to keep at each position.
        text_of: the text of a token.
    """

    first_row = 0
    chunk = _SCORE_CHUNK
    can_share = False

    def __init__(self, tokens: Sequence[int], n_top: int = 0, text_of: Callable[[int], str] = str) -> None:
        self._tokens = tokens
        self._n_top = n_top
        self._text_of = text_of
        self._scored: list[tuple[float, bool]] = []
        self._top: list[tuple[tuple[int, str, float], ...]] = []

    def take(self, start: int, rows: Logits) -> None:
        following = self._tokens[start + 1 : start + 1 + len(rows)]
        for logits, token in zip(rows, following, strict=False):
            value = float(logits[token]) - log_sum_exp(logits)
            if np.isnan(value):
                raise nan_error()
            self._scored.append((value, int(logits.argmax()) == token))
            if self._n_top:
                self._top.append(token_logprob(logits, token, self._n_top, self._text_of).top)

    def result(self, n_cached: int) -> Score:
        return Score(
            token_ids=tuple(self._tokens),
            logprobs=(None, *(value for value, _ in self._scored)),
            greedy=(None, *(greedy for _, greedy in self._scored)),
            top=((), *self._top) if self._n_top else (),
        )


class NextTokenSink:
    """Keeps the log-probabilities of some tokens after the last one of a request."""

    chunk = _WHOLE_STEP
    can_share = True

    def __init__(self, n_tokens: int, candidates: Sequence[int]) -> None:
        self.first_row = n_tokens - 1
        self._candidates = np.array(candidates, dtype=np.int64)
        self._logprobs: tuple[float, ...] = ()

    def take(self, start: int, rows: Logits) -> None:
        logits = rows[-1]
        values = logits[self._candidates].astype(np.float64) - log_sum_exp(logits)
        if np.isnan(values).any():
            raise nan_error()
        self._logprobs = tuple(values.tolist())

    def result(self, n_cached: int) -> NextTokenLogprobs:
        return NextTokenLogprobs(logprobs=self._logprobs, cached_tokens=n_cached)
