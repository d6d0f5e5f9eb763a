"""The uncertainty of figures: means over repeats of a load, with confidence intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec

from ..results.metrics import METRICS, value_at
from ..results.schema import Estimate, LoadResult, RequestRecord, Shape
from .metrics import EngineRates, Objectives, load_result

# Student's t for a two-sided 95 % interval, by degrees of freedom (from 1).
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def t95(degrees: int) -> float:
    """The 97.5 % quantile of Student's t distribution; beyond 30 degrees of freedom by its expansion in 1/degrees
    (Abramowitz and Stegun 26.7.5), which is good to three digits there."""
    if degrees <= len(_T95):
        return _T95[degrees - 1]
    z = statistics.NormalDist().inv_cdf(0.975)
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95 % t-interval of two or more independent measurements of one quantity."""
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return Estimate(statistics.fmean(values), t95(len(values) - 1) * spread, len(values))


def pooled_result(
    shape: Shape,
    repeats: Sequence[tuple[Sequence[RequestRecord], float]],
    *,
    rates: EngineRates,
    bandwidth_share: float | None,
    objectives: Objectives,
    partial: bool,
) -> LoadResult:
    """All metrics of a load over all its repeats, with the intervals of the headline metrics.

    Args:
        repeats: the requests and the duration in seconds of each.
        partial: the last repeat was cut short. It counts in the metrics, not in the intervals.
    """
    pooled = load_result(
        shape, [record for records, _ in repeats for record in records],
        sum(duration_s for _, duration_s in repeats),
        rates=rates, bandwidth_share=bandwidth_share, objectives=objectives, partial=partial,
    )  # fmt: skip
    whole = repeats[:-1] if partial else repeats
    singly = [load_result(shape, records, took, objectives=objectives) for records, took in whole]
    return msgspec.structs.replace(pooled, repeats=headline_estimates(singly))


def headline_estimates(repeats: Sequence[LoadResult]) -> dict[str, Estimate]:
    """The metrics that people quote, estimated from the repeats of a load; those that a repeat lacks are left out."""
    if len(repeats) < 2:
        return {}
    return {
        path: estimate([value for value in values if value is not None])
        for path in _headlines()
        if None not in (values := [value_at(load, path) for load in repeats])
    }


def _headlines() -> list[str]:
    """Paths within a load: the rates, the quoted percentiles, and those that the table of metrics adds."""
    rates = ["output_tokens_per_s", "requests_per_s", "goodput_rps"]
    percentiles = [
        f"{name}.{point}" for name in ("ttft_s", "itl_s", "tpot_s", "e2e_s") for point in ("p50", "p99")
    ]
    table = [metric.path for metric in METRICS.values() if metric.of_load and metric.figure is None]
    return list(dict.fromkeys([*rates, *percentiles, *table]))
