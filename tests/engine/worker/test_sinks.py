"""What sinks make of rows of logits, against a softmax written here."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lqmf_runner.engine.worker.request import Scoring
from lqmf_runner.engine.worker.sinks import NextTokenSink, ScoreSink
from lqmf_runner.errors import LqmfError
from tests.support.engine.scheduling import Bench

ROWS = np.random.default_rng(3).normal(0, 2, (5, 40)).astype(np.float32)


def log_softmax(rows: np.ndarray) -> np.ndarray:
    wide = rows.astype(np.float64)
    return wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))


def test_next_tokens_are_read_after_the_last_token_only() -> None:
    sink = NextTokenSink(5, [7, 0, 39])
    assert sink.first_row == 4
    sink.take(4, ROWS[4:])
    found = sink.result(3)
    assert found.logprobs == pytest.approx(log_softmax(ROWS[4])[[7, 0, 39]].tolist(), abs=1e-6)
    assert found.cached_tokens == 3


def test_scores_are_the_same_however_their_rows_arrive() -> None:
    tokens = [4, 8, int(ROWS[1].argmax()), 15, 16]
    results = []
    for cuts in ((0, 5), (0, 2, 5), (0, 1, 2, 3, 4, 5)):
        sink = ScoreSink(tokens, n_top=2)
        for start, end in itertools.pairwise(cuts):
            sink.take(start, ROWS[start:end])
        results.append(sink.result(0))
    assert results[0] == results[1] == results[2]
    expected = log_softmax(ROWS)[range(4), tokens[1:]]
    assert results[0].logprobs[0] is None
    assert results[0].logprobs[1:] == pytest.approx(expected.tolist(), abs=1e-6)
    assert results[0].greedy == (None, *(int(ROWS[i].argmax()) == tokens[i + 1] for i in range(4)))
    assert [len(top) for top in results[0].top] == [0, 2, 2, 2, 2]


@pytest.mark.parametrize("sink", [NextTokenSink(1, [2]), ScoreSink([1, 2])])
def test_nan_ends_the_request(sink: NextTokenSink | ScoreSink) -> None:
    rows = np.full((1, 40), np.nan, np.float32)
    with pytest.raises(LqmfError, match="NaN"):
        sink.take(0, rows)


class Rows:
    """A sink that keeps the positions it is given."""

    chunk = 48
    can_share = False

    def __init__(self, first_row: int) -> None:
        self.first_row = first_row
        self.seen: list[tuple[int, int]] = []

    def take(self, start: int, rows: np.ndarray) -> None:
        assert len(rows)
        self.seen += [(start + i, int(row.argmax())) for i, row in enumerate(rows)]

    def result(self, n_cached: int) -> int:
        return len(self.seen)


def test_a_sink_gets_the_rows_it_wants_and_no_others() -> None:
    bench = Bench(max_slots=2, n_batch=64)
    sinks = [Rows(70), Rows(0), Rows(119)]
    for i, sink in enumerate(sinks):
        tokens = list(range(100 * i, 100 * i + 120))
        bench.scheduler.add(Scoring(i, tokens, sink))
    bench.run()
    for i, sink in enumerate(sinks):
        assert sink.seen == [(p, 100 * i + p + 1) for p in range(sink.first_row, 120)]
    assert bench.replies == {0: 50, 1: 120, 2: 1}
    assert max(n for step in bench.runner.steps for *_, n in step) == 48
