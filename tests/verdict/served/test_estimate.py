"""Estimates over what was served, beside what numpy and simulations say."""

from __future__ import annotations

import random

import numpy as np
import pytest

from lqmf_runner.results.served import FAILED, OK
from lqmf_runner.verdict.served.estimate import FIGURES, Estimate, change, estimate
from tests.support.server.served import served

FIGURE = {figure.key: figure for figure in FIGURES}


def test_means_are_those_of_the_requests() -> None:
    records = served(random.Random(1), "x@3", 50)
    ttft = estimate(records, FIGURE["ttft_mean_s"])
    itl = estimate(records, FIGURE["itl_mean_s"])
    assert ttft is not None
    assert itl is not None
    assert ttft.value == pytest.approx(np.mean([record.ttft_s for record in records]))
    by_unit = np.var([record.ttft_s for record in records], ddof=1) / 50
    assert by_unit <= ttft.variance < 2 * by_unit, "or by minutes, of which there are nine"
    assert itl.value == pytest.approx(sum(r.gaps_s for r in records) / sum(r.gaps for r in records))


def test_the_variance_is_that_of_whole_sessions() -> None:
    """As a bootstrap over sessions has it. As one over single requests, it would be a fraction of that."""
    records = served(random.Random(2), "x@3", 600, session_of=10, session_spread=0.8)
    found = estimate(records, FIGURE["ttft_mean_s"])
    assert found is not None
    assert found.units == 60
    rng = np.random.default_rng(2)
    times = np.array([record.ttft_s for record in records]).reshape(60, 10)
    drawn = [times[rng.integers(0, 60, 60)].mean() for _ in range(4000)]
    assert found.variance == pytest.approx(np.var(drawn), rel=0.1)
    assert found.variance > 3 * np.var(times) / times.size


def test_a_share_of_which_there_is_nothing_is_not_certain() -> None:
    figure = FIGURE["failed_share"]
    none = estimate(served(random.Random(3), "x@3", 40), figure)
    some = estimate(
        [*served(random.Random(4), "x@4", 37), *served(random.Random(5), "x@4 ", 3, outcome=FAILED)], figure
    )
    assert none is not None
    assert some is not None
    assert (none.value, some.value) == (0.0, pytest.approx(3 / 40))
    found = change(none, some, figure, 0.05)
    assert found is not None
    assert not found.beyond_noise, "3 of 40 against 0 of 40: Fisher's p is 0.24"


def test_a_figure_that_nobody_has_is_none() -> None:
    failed = served(random.Random(6), "x@3", 40, outcome=FAILED)
    assert estimate(failed, FIGURE["ttft_mean_s"]) is None
    assert change(Estimate(0, 0, 9, 0), Estimate(1, 1, 9, 1), FIGURE["ttft_mean_s"], 0.05) is None
    assert {record.outcome for record in failed} != {OK}


def test_who_looks_at_every_step_is_wrong_in_one_of_twenty_at_most() -> None:
    """Two versions that are the same, looked at 20 times each. Ordinary 95 % intervals are wrong in a fifth."""
    figure, rng = FIGURE["ttft_mean_s"], np.random.default_rng(7)
    wrong = ordinary = 0
    for _ in range(200):
        times = rng.exponential(0.05, (2, 1000))
        looks = [_both(times[:, :n]) for n in range(50, 1001, 50)]
        found = [change(one, other, figure, 0.05) for one, other in looks]
        wrong += any(each is not None and each.beyond_noise for each in found)
        ordinary += any(
            abs(one.value - other.value) > 1.96 * (one.variance + other.variance) ** 0.5
            for one, other in looks
        )
    assert wrong <= 10
    assert ordinary > 25, "else this test shows nothing"


def _both(times: np.ndarray) -> tuple[Estimate, Estimate]:
    means, variances, n = times.mean(axis=1), times.var(axis=1, ddof=1) / times.shape[1], times.shape[1]
    one, other = (Estimate(float(m), float(v), n, float(m)) for m, v in zip(means, variances, strict=True))
    return one, other


def test_a_difference_that_is_there_is_found() -> None:
    figure = FIGURE["itl_mean_s"]
    before = estimate(served(random.Random(8), "x@3", 300), figure)
    after = estimate(served(random.Random(9), "x@4", 300, gap_s=0.008), figure)
    assert before is not None
    assert after is not None
    found = change(before, after, figure, 0.05)
    assert found is not None
    assert found.beyond_noise
    assert found.low < -0.2 < found.high, "20 % less"
