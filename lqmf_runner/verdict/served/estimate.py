"""Figures of served requests with anytime-valid uncertainty.

Requests of one session or key are not independent: they went to their version together. So the unit of all variances
is the session or key (`ServedRecord.unit`), as in Deng, Knoblich and Lu (2018), "Applying the delta method in metric
analytics". Traffic goes on, and people look again and again until they like what they see, which ordinary 95 %
intervals do not allow. Those here hold at all times together (asymptotic confidence sequences, Waudby-Smith, Arbour,
Sinha, Kennedy and Ramdas, 2024), for the price of being about one and a half times as wide.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ...results.served import CANCELLED, FAILED, OK, ServedRecord

ENOUGH_UNITS = 30
"""Sessions, keys or single requests that each version must have a figure of: the intervals hold for many only."""
_SHARPEST_AT = 500
"""Units at which the intervals are the narrowest that such intervals can be."""

Part = Callable[[ServedRecord], tuple[float, float]]


@dataclass(frozen=True)
class Figure:
    """A figure by which versions are compared: a sum over requests divided by another sum.

    Attributes:
        label: what people call it.
        form: how a value is written, after multiplication by `scale`.
        part: what a request adds to both sums.
        decides: the version with the smaller value is better. Otherwise the figure is only reported.
        of_time: it depends on how much the version has to do at once, and on what else its machine does.
        is_share: it is compared by the difference in points, not by the ratio.
    """

    key: str
    label: str
    form: str
    part: Part
    scale: float = 1.0
    decides: bool = False
    of_time: bool = False
    is_share: bool = False


@dataclass(frozen=True)
class Estimate:
    """A ratio of sums over `units`, its variance, and the same shrunk towards the middle (`Figure.is_share`)."""

    value: float
    variance: float
    units: int
    centre: float


@dataclass(frozen=True)
class Change:
    """The change from one version to another with its interval: relative, or for a share the difference."""

    value: float
    low: float
    high: float

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval excludes zero."""
        return not self.low <= 0 <= self.high


def estimate(records: Sequence[ServedRecord], figure: Figure) -> Estimate | None:
    """The figure over these requests; None if fewer than `ENOUGH_UNITS` units have a value.

    A share of which there was nothing, or all, would have a variance of 0. To the variance and the centre of a share
    one unit is added that has it and one that has not (Agresti and Caffo, 2000).

    Whatever else a machine does slows the worker of one version for a while, however its requests were chosen. So the
    variance of a time is that over units or that over minutes, whichever is larger.
    """
    found = _sums(records, figure, lambda record: record.unit)
    if len(found) < ENOUGH_UNITS:
        return None
    value, units = _ratio(found), len(found)
    if figure.is_share:
        found += [(1.0, 1.0), (0.0, 1.0)]
    variance = _variance(found)
    if figure.of_time:
        minutes = _sums(records, figure, minute)
        variance = max(variance, _variance(minutes)) if len(minutes) > 1 else math.inf
    return Estimate(value, variance, units, _ratio(found))


def minute(record: ServedRecord) -> int:
    """The minute in which a request came."""
    return int(record.time // 60)


def _sums(
    records: Iterable[ServedRecord], figure: Figure, key: Callable[[ServedRecord], object]
) -> list[tuple[float, float]]:
    """Both sums of the figure for each key, over all requests that have it."""
    sums: defaultdict[object, list[tuple[float, float]]] = defaultdict(list)
    for record in records:
        above, below = figure.part(record)
        if below:
            sums[key(record)].append((above, below))
    return [(math.fsum(y for y, _ in own), math.fsum(x for _, x in own)) for own in sums.values()]


def _variance(parts: Sequence[tuple[float, float]]) -> float:
    """The variance of the ratio of sums of independent parts (the delta method)."""
    n, ratio = len(parts), _ratio(parts)
    squares = math.fsum((y - ratio * x) ** 2 for y, x in parts)
    return n / (n - 1) * squares / math.fsum(x for _, x in parts) ** 2


def change(before: Estimate, after: Estimate, figure: Figure, alpha: float) -> Change | None:
    """How much more the second has, with an interval that is wrong with the probability `alpha` at most.

    None where a ratio has no meaning, because one of them is 0.
    """
    width = _factor(before.units + after.units, alpha)
    if figure.is_share:
        half = width * math.sqrt(before.variance + after.variance)
        middle = after.centre - before.centre
        return Change(after.value - before.value, middle - half, middle + half)
    if before.value <= 0 or after.value <= 0:
        return None
    half = width * math.sqrt(before.variance / before.value**2 + after.variance / after.value**2)
    logarithm = math.log(after.value / before.value)
    return Change(
        after.value / before.value - 1, math.expm1(logarithm - half), math.expm1(min(logarithm + half, 700.0))
    )


def _factor(units: int, alpha: float) -> float:
    """By how many standard errors to go to both sides, so that it holds at all times (Waudby-Smith et al., eq. 14)."""
    rho2 = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / _SHARPEST_AT
    scaled = units * rho2
    return math.sqrt(2 * (scaled + 1) / scaled * math.log(math.sqrt(scaled + 1) / alpha))


def _ratio(parts: Sequence[tuple[float, float]]) -> float:
    return math.fsum(y for y, _ in parts) / math.fsum(x for _, x in parts)


def _of_ok(above: Callable[[ServedRecord], float], below: Callable[[ServedRecord], float]) -> Part:
    """The figure of requests that were answered completely."""
    return lambda record: (above(record), below(record)) if record.outcome == OK else (0.0, 0.0)


def _share(outcome: str, among: tuple[str, ...]) -> Part:
    return lambda record: (float(record.outcome == outcome), float(record.outcome in among))


FIGURES = (
    Figure(
        "ttft_mean_s", "TTFT, mean", "{:.1f} ms",
        _of_ok(lambda r: r.ttft_s, lambda r: r.ttft_s > 0), scale=1e3, decides=True, of_time=True,
    ),
    Figure(
        "itl_mean_s", "ITL, mean", "{:.2f} ms",
        _of_ok(lambda r: r.gaps_s, lambda r: r.gaps), scale=1e3, decides=True, of_time=True,
    ),
    Figure(
        "failed_share", "failed requests", "{:.2f} %",
        _share(FAILED, (OK, FAILED)), scale=100, decides=True, is_share=True,
    ),
    Figure(
        "cancelled_share", "requests whose client left", "{:.2f} %",
        _share(CANCELLED, (OK, FAILED, CANCELLED)), scale=100, decides=True, is_share=True,
    ),
    Figure(
        "answer_tokens_per_s", "speed of an answer", "{:.1f} tok/s",
        _of_ok(lambda r: r.output_tokens, lambda r: r.e2e_s), of_time=True,
    ),
    Figure(
        "answer_tokens", "length of an answer", "{:.1f} tokens",
        _of_ok(lambda r: r.output_tokens, lambda r: r.answers),
    ),
    Figure(
        "cut_share", "answers cut at their length", "{:.1f} %",
        _of_ok(lambda r: r.finish_reasons.count("length"), lambda r: r.answers), scale=100, is_share=True,
    ),
)  # fmt: skip
"""All figures, those that decide first."""
