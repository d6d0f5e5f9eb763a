"""A ramp: offer more and more requests per second until the engine no longer keeps up."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..errors import UserInputError
from ..results.schema import RampResult, RequestRecord
from .metrics import Objectives
from .open_loop import OpenLoop

LEAST_SERVED = 0.9
LEAST_GOOD = 0.9
STEP_REQUESTS = 40  # so that a tenth of those in the second half is more than a single late request
STEP_ANSWERS = 4  # duration of a step, in answers: the engine reaches its steady state in the first half
LEAST_FACTOR = 1.01  # rates have three digits


@dataclass
class Ramp:
    """Chooses the rates to try: each `factor` times the last, then, between the highest that was sustained and the
    lowest that was not, `refine` times their geometric mean.

    Attributes:
        start, max_rate: the first rate and the highest, in requests per second.
        step_s: least length of a step, in seconds. Low rates take longer, so that enough requests arrive to judge by,
            and so do long answers; a step that proves too short for its answers is done again.

    Raises:
        UserInputError: a number is out of range.
    """

    start: float
    factor: float = 1.5
    max_rate: float = 64.0
    step_s: float = 10.0
    refine: int = 2
    result: RampResult = field(default_factory=RampResult)
    _answer_s: float = field(default=0.0, init=False)
    _again: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        for name, value, fits, what in (
            ("start", self.start, 0 < self.start < math.inf, "it is a rate, more than 0"),
            ("factor", self.factor, LEAST_FACTOR <= self.factor < math.inf, f"at least {LEAST_FACTOR}"),
            ("max_rate", self.max_rate, self.start <= self.max_rate < math.inf, "at least mode.ramp.start"),
            ("step_s", self.step_s, 0 < self.step_s < math.inf, "it is a time, more than 0 s"),
            ("refine", self.refine, self.refine >= 0, "it must be at least 0"),
        ):
            if not fits:
                raise UserInputError(f"mode.ramp.{name}={value:g} is not valid", hint=what)

    def steps(self) -> Iterator[OpenLoop]:
        """The loads of the ramp. Call `judge` with the requests of each before taking the next.

        The same rate twice in a row: what the first time found does not count.
        """
        rate = self.start
        while True:
            yield from self._try(rate)
            if self.result.saturated_rps is not None:
                break
            if rate >= self.max_rate:
                return
            rate = min(_rounded(rate * self.factor), self.max_rate)
        for _ in range(self.refine):
            low, high = self.result.sustained_rps, self.result.saturated_rps
            if low is None or not low < (rate := _rounded(math.sqrt(low * high))) < high:
                return
            yield from self._try(rate)

    def _try(self, rate: float) -> Iterator[OpenLoop]:
        yield self._step(rate)
        if self._again:
            yield self._step(rate)

    def _step(self, rate: float) -> OpenLoop:
        duration = max(self.step_s, STEP_REQUESTS / rate, STEP_ANSWERS * self._answer_s)
        return OpenLoop(rate, "constant", duration_s=duration, kind="ramp")

    def judge(self, step: OpenLoop, records: Sequence[RequestRecord], objectives: Objectives) -> None:
        """Record whether a step was sustained. A failed step that was too short to decide is repeated."""
        assert step.duration_s is not None
        sustained = is_sustained(records, step.duration_s, objectives)
        in_order = sorted(records, key=_arrival)
        # If a queue builds up, only the first answers show the duration of an answer.
        self._answer_s = _median_s(in_order) if sustained else max(self._answer_s, _median_s(in_order[:4]))
        too_short = step.duration_s < STEP_ANSWERS * self._answer_s
        self._again = too_short and not sustained and not self._again
        if sustained:
            self.result = RampResult(step.rate, self.result.saturated_rps)
        elif not self._again:
            self.result = RampResult(self.result.sustained_rps, step.rate)


def _median_s(records: Sequence[RequestRecord]) -> float:
    return statistics.median([record.e2e_s or 0.0 for record in records] or [0.0])


def _arrival(record: RequestRecord) -> float:
    return record.sent_s if record.due_s is None else record.due_s


def _rounded(rate: float) -> float:
    return float(f"{rate:.3g}")


def is_sustained(records: Sequence[RequestRecord], window_s: float, objectives: Objectives) -> bool:
    """Whether an engine kept up with requests that arrived over `window_s` seconds.

    It did when no request failed, nine in ten met the objectives (if there are any), and in the second half of the
    window at least 0.9 times as many requests ended as arrived. In other words, the served rate does not fall behind
    the offered one, and the queue does not grow. The first half is left out, as the engine fills up in it.
    """
    if not records or any(record.error is not None for record in records):
        return False
    if objectives.given and sum(map(objectives.met, records)) < LEAST_GOOD * len(records):
        return False
    began = [_arrival(record) for record in records]
    ended = [at + (record.e2e_s or 0.0) for at, record in zip(began, records, strict=True)]
    half = window_s / 2
    arrived = sum(half <= at < window_s for at in began)
    served = sum(half <= at < window_s for at in ended)
    return served >= LEAST_SERVED * arrived
