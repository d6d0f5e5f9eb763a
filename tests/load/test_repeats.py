from __future__ import annotations

import math

import pytest

from lqmf_runner.load.metrics import EngineRates, Objectives, load_result
from lqmf_runner.load.repeats import estimate, headline_estimates, pooled_result, t95
from lqmf_runner.results.schema import LoadResult, Shape
from tests.support.runs.sample import sample_record


def t_probability(t: float, degrees: int) -> float:
    """P(|T| < t) by Simpson's rule over the density of Student's t, an independent way to the same number."""
    log_norm = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(degrees * math.pi)

    def density(x: float) -> float:
        return math.exp(log_norm - (degrees + 1) / 2 * math.log1p(x * x / degrees))

    n = 4000
    h = t / n
    inner = sum((4 if i % 2 else 2) * density(i * h) for i in range(1, n))
    return 2 * h / 3 * (density(0) + inner + density(t))


@pytest.mark.parametrize("degrees", [*range(1, 35), 60, 200])
def test_the_quantile_holds_95_percent(degrees: int) -> None:
    assert t_probability(t95(degrees), degrees) == pytest.approx(0.95, abs=2e-4)


def test_an_interval_by_hand() -> None:
    """Values 10, 12, 14: mean 12, s = 2, t(2) = 4.303, half width 4.303 · 2 / √3."""
    got = estimate([10.0, 12.0, 14.0])
    assert (got.mean, got.n) == (12.0, 3)
    assert got.ci95 == pytest.approx(4.303 * 2 / math.sqrt(3), rel=1e-3)


def test_headlines_of_repeats() -> None:
    repeats = [
        load_result(Shape("closed", 1), [sample_record("m", "c1", n) for n in range(4)], duration)
        for duration in (1.0, 2.0)
    ]
    found = headline_estimates(repeats)
    assert found["output_tokens_per_s"].mean == pytest.approx((180 + 90) / 2)
    assert found["ttft_s.p50"].ci95 == 0.0
    assert "goodput_rps" not in found  # no objectives were given
    assert headline_estimates(repeats[:1]) == {}


def test_a_repeat_that_was_cut_short_counts_in_the_pool_and_not_in_the_intervals() -> None:
    repeats = [([sample_record("m", "c1", n) for n in range(4)], took) for took in (1.0, 2.0, 1.0)]

    def pooled(partial: bool) -> LoadResult:
        return pooled_result(
            Shape("closed", 1), repeats, rates=EngineRates(decode_tokens_per_s=7.0), bandwidth_share=0.5,
            objectives=Objectives(), partial=partial,
        )  # fmt: skip

    whole, cut = pooled(partial=False), pooled(partial=True)
    assert (whole.requests, whole.duration_s, whole.partial) == (12, 4.0, False)
    assert (whole.decode_tokens_per_s, whole.bandwidth_utilisation) == (7.0, 0.5)
    assert whole.repeats["requests_per_s"].n == 3
    assert (cut.requests, cut.partial, cut.repeats["requests_per_s"].n) == (12, True, 2)
