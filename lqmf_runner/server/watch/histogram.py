"""A histogram in Prometheus' form."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Sequence


class Histogram:
    """Counts of values up to each bound, and their sum. Bounds ascend; the last bucket is unbounded."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """The mean; None if there are no values."""
        count = self.count
        return self.sum / count if count else None

    def add(self, values: Iterable[float]) -> None:
        """Count values; one that equals a bound is within it."""
        bounds, counts = self.bounds, self.counts
        for value in values:
            counts[bisect_left(bounds, value)] += 1
            self.sum += value

    def cumulative(self) -> list[tuple[str, float]]:
        """How many values are within each bound, the last of which is "+Inf"."""
        names = (*map(str, self.bounds), "+Inf")
        return list(zip(names, itertools.accumulate(self.counts), strict=True))

    def quantile(self, q: float) -> float | None:
        """The value that a share `q` lies under, linear within its bucket (as Prometheus' `histogram_quantile`).

        At most the last bound; None while there are no values.
        """
        total = self.count
        if not total:
            return None
        wanted, below = q * total, 0
        for index, bound in enumerate(self.bounds):
            here = self.counts[index]
            if here and below + here >= wanted:
                low = self.bounds[index - 1] if index else 0.0
                return low + (bound - low) * (wanted - below) / here
            below += here
        return self.bounds[-1]
