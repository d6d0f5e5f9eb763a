"""What a step of decode tokens costs by the rows it computes, learned from the steps that were run.

On a GPU, or where weights are read from main memory, thirteen rows cost little more than one. llama.cpp on a CPU takes
six times as long. Only the machine that runs knows.
"""

from __future__ import annotations

import itertools

_FIRST_GUESS = 0.6  # of a row beyond the first, as a fraction of a step with one row
_WEIGHT = 0.2  # of a new measurement in the running mean
_MOST_OFF = 3.0  # a step that took so many times its mean was disturbed, and counts as that
_FORGET = 0.999  # a step: a figure that is not measured again is doubted, so that it will be
_N_BUCKETS = 12
_LEAST_GAIN = 1.2  # in tokens a second: costs and chances are estimates, and there is work around a step
_LEAST_GAIN_BESIDE = 0.2  # more for each other request of the step, which has to wait longer for its token
_LONGEST_WAIT = 1.5  # of those others, as a multiple of the step without the draft


class StepCosts:
    """Seconds of a step by its number of rows: running means in buckets of powers of two, interpolated between."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[float, float]] = {}  # bucket: rows, seconds
        self._points: list[tuple[float, float]] = []

    def note(self, n_rows: int, seconds: float) -> None:
        """Take in a step that was run."""
        bucket = min(n_rows.bit_length(), _N_BUCKETS)
        mean = self._seen.get(bucket)
        self.doubt()
        if mean is None:
            self._seen[bucket] = float(n_rows), seconds
        else:
            rows, old = mean
            new = min(seconds, _MOST_OFF * old)
            self._seen[bucket] = rows + _WEIGHT * (n_rows - rows), old + _WEIGHT * (new - old)
        self._points = sorted(self._seen.values())

    def doubt(self) -> None:
        """Believe a little less in what was seen."""
        self._seen = {b: (rows, old * _FORGET) for b, (rows, old) in self._seen.items()}
        self._points = sorted(self._seen.values())

    def knows(self, n_rows: int) -> bool:
        """Whether a step over so many rows, or over more, was run."""
        return bool(self._points) and n_rows <= self._points[-1][0]

    def of(self, n_rows: int) -> float:
        """Expected seconds of a step over `n_rows` rows; before the first step, in units of a step over one row.

        Beyond what was measured the figure is a hopeful one, so that it will be.
        """
        points = self._points
        if not points:
            return _guess(n_rows)
        rows, seconds = points[0]
        if n_rows <= rows:
            return seconds * _guess(n_rows) / _guess(rows)
        for (left, before), (right, after) in itertools.pairwise(points):
            if n_rows <= right:
                return before + (after - before) * (n_rows - left) / (right - left)
        last_rows, last = points[-1]
        slope = _FIRST_GUESS * self.of(1)
        if len(points) > 1:
            rows, seconds = points[-2]
            slope = min(slope, max(last - seconds, 0.0) / (last_rows - rows))
        return last + slope * (n_rows - last_rows)


def least_gain(n_beside: int) -> float:
    """The factor by which a draft must raise the tokens a second of a step beside `n_beside` requests without it."""
    return _LEAST_GAIN + _LEAST_GAIN_BESIDE * n_beside


def slows_others(n_rows: int, n_drafted: int, costs: StepCosts, seconds: float = 0.0) -> bool:
    """Whether drafts of so many tokens make the other requests of a step wait too long.

    Far beyond the measured numbers of rows the costs are too low, so drafts become longer in steps.

    Args:
        n_rows: of the step without drafts.
        costs: of steps.
        seconds: that the drafts themselves take.
    """
    rows = n_rows + n_drafted
    return not costs.knows(rows // 2) or seconds + costs.of(rows) > _LONGEST_WAIT * costs.of(n_rows)


def _guess(n_rows: float) -> float:
    return 1 + _FIRST_GUESS * (n_rows - 1)
