from __future__ import annotations

import random

import pytest

from lqmf_runner.server.watch.histogram import Histogram


def test_a_value_on_a_bound_is_within_it() -> None:
    histogram = Histogram([1, 2])
    histogram.add([0.5, 1.0, 1.5, 2.0, 9.0])
    assert histogram.counts == [2, 2, 1]
    assert histogram.mean == pytest.approx(14 / 5)
    assert histogram.cumulative() == [("1", 2), ("2", 4), ("+Inf", 5)]


def test_quantiles_are_within_a_bucket_of_the_true_ones() -> None:
    bounds = [n / 10 for n in range(1, 11)]
    values = sorted(random.Random(0).betavariate(2, 3) for _ in range(1000))
    histogram = Histogram(bounds)
    histogram.add(values)
    for q in (0.01, 0.5, 0.9, 0.99):
        estimate = histogram.quantile(q)
        assert estimate is not None
        assert abs(estimate - values[round(q * 999)]) <= 0.1
    assert Histogram(bounds).quantile(0.5) is None
    late = Histogram(bounds)
    late.add([5.0])
    assert late.quantile(0.5) == 1.0
