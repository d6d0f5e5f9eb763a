"""Windows of a text, scored in the worker, which writes full distributions to a file or compares them with one.

A row of 150,000 log-probabilities for every token would overload the socket; three numbers for each position do not.
The rows of a reference are in one file, window after window. So the place of a window can be computed, and windows can
be written and read in any order. A thread reads them ahead of the model. The file is not memory-mapped: then a
truncated file would cause a SIGBUS instead of an error, and more than the current windows would be in memory.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import EngineError, InvalidRequestError
from ...types import Window, WindowScore
from .distributions import CODE, NotFiniteError, RowScores, compare_rows, record_rows
from .sampling import Logits

_CHUNK = 512  # rows at a time: 300 MB with a vocabulary of 150,000


class _Score(Protocol):
    def __call__(self, logits: Logits, targets: Sequence[int], first: int) -> RowScores: ...


class WindowScorer:
    """Makes the sinks of windows, and shares the threads that work on their rows."""

    def __init__(self, n_vocab: int, n_threads: int) -> None:
        self._n_vocab = n_vocab
        self._n_threads = n_threads
        self._workers = ThreadPoolExecutor(n_threads, thread_name_prefix="rows")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")

    def sink(self, window: Window) -> WindowSink:
        """The sink of one window; reading what it is compared with begins now.

        Raises:
            InvalidRequestError: nothing is to be scored, or the rows have another width than the model's.
        """
        n_scored = len(window.tokens) - window.first
        if window.first < 1 or n_scored < 1:
            raise InvalidRequestError(
                f"a window of {len(window.tokens)} tokens cannot be scored from token {window.first} on",
                hint="the first token scored needs one before it",
            )
        if window.record and window.n_vocab != self._n_vocab:
            raise InvalidRequestError(
                f"rows of {window.n_vocab} values cannot hold a vocabulary of {self._n_vocab}"
            )
        offset = window.index * n_scored * window.n_vocab * CODE.itemsize
        if window.record:
            return WindowSink(window, self, partial(_record, window, offset))
        rows = self._reader.submit(_read, window.rows, offset, (n_scored, window.n_vocab))
        return WindowSink(window, self, partial(_compare, rows))

    def run(self, score: _Score, logits: Logits, targets: Sequence[int], first: int) -> RowScores:
        """Score rows on all threads, each its share of consecutive ones."""
        share = -(-len(targets) // self._n_threads)
        starts = range(0, len(targets), share)
        jobs = [
            self._workers.submit(score, logits[at : at + share], targets[at : at + share], first + at)
            for at in starts
        ]
        together = RowScores([], [], [])
        for at, job in zip(starts, jobs, strict=True):
            try:
                together.extend(job.result())
            except NotFiniteError as error:
                raise NotFiniteError(at + error.row) from None
        return together


class WindowSink:
    """Scores the rows of one window as they come (a `RowSink`)."""

    chunk = _CHUNK
    can_share = False

    def __init__(self, window: Window, scorer: WindowScorer, score: _Score) -> None:
        self.first_row = window.first - 1
        self._window = window
        self._scorer = scorer
        self._score = score
        self._scores = RowScores([], [], [])

    def take(self, start: int, rows: Logits) -> None:
        targets = self._window.tokens[start + 1 : start + 1 + len(rows)]  # the last token has no next token
        try:
            scores = self._scorer.run(self._score, rows, targets, start - self.first_row)
        except NotFiniteError as error:
            raise EngineError(
                f"the model produced NaN or infinite logits at position {start + error.row} of window "
                f"{self._window.index}",
                hint="its weights are damaged, or overflow in this dtype",
            ) from None
        except OSError as error:
            what = "written" if self._window.record else "read"
            raise EngineError(
                f"the reference's distributions could not be {what}: {error.strerror or error}",
                hint="is the disk full? fidelity.cache_dir can be elsewhere",
            ) from error
        self._scores.extend(scores)

    def result(self, n_cached: int) -> WindowScore:
        nll, top, kld = self._scores
        return WindowScore(tuple(nll), tuple(top), tuple(kld))


def _record(window: Window, offset: int, logits: Logits, targets: Sequence[int], first: int) -> RowScores:
    codes = np.empty((len(targets), window.n_vocab), CODE)
    scores = record_rows(logits, targets, codes)
    at = offset + first * window.n_vocab * CODE.itemsize
    file = os.open(window.rows, os.O_WRONLY | os.O_CLOEXEC)
    try:
        rest = codes.data.cast("B")
        while rest:
            written = os.pwrite(file, rest, at)
            rest, at = rest[written:], at + written
    finally:
        os.close(file)
    return scores


def _compare(
    rows: Future[NDArray[np.uint16]], logits: Logits, targets: Sequence[int], first: int
) -> RowScores:
    return compare_rows(logits, targets, rows.result()[first : first + len(targets)])


def _read(path: str, offset: int, shape: tuple[int, int]) -> NDArray[np.uint16]:
    codes = np.empty(shape, CODE)
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        rest = codes.data.cast("B")
        while rest:
            n = file.readinto(rest)
            if not n:
                raise OSError("the file is shorter than it was")
            rest = rest[n:]
    return codes
