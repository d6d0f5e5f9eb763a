"""Row sinks: what becomes of the logits of a token sequence that is given, not generated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..types import Score
from .sampling import Logits, log_sum_exp, nan_error

_SCORE_CHUNK = 128


class RowSink(Protocol):
    """Takes the rows of logits of one request as the scheduler computes them.

    Attributes:
        first_row: position of the first token whose next-token logits are wanted; all after it are wanted too.
        chunk: most tokens of the request in one step, which bounds the rows that exist at a time.
    """

    first_row: int
    chunk: int

    def take(self, start: int, rows: Logits) -> None:
        """The logits after the tokens at positions start, start + 1, ...; valid during the call.

        Raises:
            LqmfError: ends the request.
        """

    def result(self) -> Any:
        """What the request is answered with, once all rows were taken."""


class ScoreSink:
    """Keeps the log-probability of every token: the sink of `EngineClient.score`."""

    first_row = 0
    chunk = _SCORE_CHUNK

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = tokens
        self._scored: list[tuple[float, bool]] = []

    def take(self, start: int, rows: Logits) -> None:
        following = self._tokens[start + 1 : start + 1 + len(rows)]
        for logits, token in zip(rows, following, strict=False):
            value = float(logits[token]) - log_sum_exp(logits)
            if np.isnan(value):
                raise nan_error()
            self._scored.append((value, int(logits.argmax()) == token))

    def result(self) -> Score:
        return Score(
            token_ids=tuple(self._tokens),
            logprobs=(None, *(value for value, _ in self._scored)),
            greedy=(None, *(greedy for _, greedy in self._scored)),
        )
