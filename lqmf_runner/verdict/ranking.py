"""Ranks candidates by their figures, and finds the constraints that they miss and the Pareto front.

The ranking is a weighted geometric mean of speed, smallness in memory and fidelity. It is kept as a logarithm to base
2: one more is twice the speed, half the memory, or `KLD_PER_HALF` less KL divergence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from ..config import VerdictConfig, WeightsConfig
from ..results.metrics import METRICS, NOISE_Z, Metric, bounds
from ..results.verdict import Miss

KLD_PER_HALF = 0.1
ENOUGH_REQUESTS = 8  # requests from which the usual noise of a load is valid
OF_FIDELITY = ("kld", "top1")
DIMENSIONS = ("fidelity", "speed", "memory")


class Measure(msgspec.Struct, frozen=True):
    """A finite figure and its standard error; 0 is exact."""

    value: float
    error: float = 0.0

    def ties_with(self, other: Measure) -> bool:
        """Whether the difference is within the noise of both."""
        return abs(self.value - other.value) <= NOISE_Z * math.hypot(self.error, other.error)


@dataclass(frozen=True)
class Candidate:
    """The measurements of one model.

    Attributes:
        measures: figures by the key of their metric; what was not measured is missing. Speed and memory are positive.
        speeds: output tokens per second at each concurrency.
        error: why the model's run failed; such a model is reported and not judged.
        broken: why its figures are those of no working quantization; such a model is judged and never qualifies.
        uncounted: why its fidelity is left out.
        requests: that the speed was taken from, if the load ran once.
        other_cores: that other programs kept busy while its speed was measured.
        parts_after: tokens after which half of the greedy answers differ from the reference's.
    """

    name: str
    measures: Mapping[str, Measure] = field(default_factory=dict)
    speeds: Mapping[int, Measure] = field(default_factory=dict)
    error: str | None = None
    parts_after: float | None = None
    broken: str | None = None
    uncounted: str | None = None
    requests: int | None = None
    other_cores: float | None = None


@dataclass(frozen=True)
class Ranked:
    """A candidate with its score and its unmet constraints.

    Attributes:
        figures: by dimension, the figure it is taken from, negated where lower is better.
        score: of the ranking; None if a figure that has a weight is missing.
    """

    candidate: Candidate
    misses: tuple[Miss, ...]
    figures: Mapping[str, float]
    score: Measure | None

    @property
    def name(self) -> str:
        """Name of the candidate."""
        return self.candidate.name

    @property
    def qualifies(self) -> bool:
        """Whether it meets every constraint and is not broken."""
        return not self.misses and self.candidate.broken is None

    @property
    def shortfall(self) -> float:
        """The worst relative shortfall; infinite if a bound figure is missing, 0 if all bounds are met."""
        worst = (math.inf if miss.shortfall is None else miss.shortfall for miss in self.misses)
        return max(worst, default=0.0)

    @property
    def order(self) -> tuple[float, ...]:
        """Sort key, the best first. Figures decide between equal scores, so no model precedes one that dominates it."""
        group = (not self.qualifies, self.candidate.broken is not None, self.shortfall)
        if self.score is None:
            return (*group, True)
        figures = (-self.figures.get(name, -math.inf) for name in DIMENSIONS)
        return (*group, False, -self.score.value, *figures)


def rank(candidates: Sequence[Candidate], config: VerdictConfig) -> list[Ranked]:
    """The candidates in order: qualifying ones by score, then the others by how far they miss, broken ones last."""
    sources = dimension_sources(candidates)
    return sorted((_ranked(c, config, sources) for c in candidates), key=lambda row: row.order)


def dimension_sources(candidates: Sequence[Candidate]) -> dict[str, str]:
    """Dimension → key of its figure, for the dimensions that were measured for any candidate."""
    measured = {key for candidate in candidates for key in candidate.measures}
    sources = {"fidelity": "kld", "speed": "tokens_per_s", "memory": "memory_mb"}
    return {name: key for name, key in sources.items() if key in measured}


def missing(candidate: Candidate, weights: WeightsConfig, sources: Mapping[str, str]) -> list[str]:
    """Labels of the figures that the ranking needs and the candidate lacks."""
    wanted = (key for name, key in sources.items() if getattr(weights, name) > 0)
    return [METRICS[key].label for key in wanted if key not in candidate.measures]


def misses_of(candidate: Candidate, config: VerdictConfig) -> tuple[Miss, ...]:
    """The constraints that a candidate does not meet. A bound figure that was not measured is a miss."""
    metrics = bounds()
    misses = (_miss(name, metrics[name], limit, candidate) for name, limit in config.bounds.items())
    return tuple(miss for miss in misses if miss is not None)


def pareto_front(rows: Sequence[Ranked]) -> list[str]:
    """Names of the candidates that no other one dominates, among those with the most figures."""
    rows = [row for row in rows if row.candidate.broken is None]
    most = max((len(row.figures) for row in rows), default=0)
    complete = [row for row in rows if len(row.figures) == most > 0]
    return [
        row.name for row in complete if not any(dominates(other.figures, row.figures) for other in complete)
    ]


def dominates(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether `one` is nowhere worse and somewhere better than `other`; not if they lack different figures."""
    if one.keys() != other.keys():
        return False
    pairs = [(one[name], other[name]) for name in one]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _ranked(candidate: Candidate, config: VerdictConfig, sources: Mapping[str, str]) -> Ranked:
    found = {name: candidate.measures[key] for name, key in sources.items() if key in candidate.measures}
    score = None
    if found and not missing(candidate, config.weights, sources):
        weighed = [
            (getattr(config.weights, name), _utility(sources[name], measure))
            for name, measure in found.items()
        ]
        score = Measure(
            sum(weight * utility.value for weight, utility in weighed if weight),
            math.hypot(*(weight * utility.error for weight, utility in weighed if weight)),
        )
    figures = {
        name: measure.value if METRICS[sources[name]].higher else -measure.value
        for name, measure in found.items()
    }
    return Ranked(candidate, misses_of(candidate, config), figures, score)


def _utility(key: str, measure: Measure) -> Measure:
    """A figure on a logarithmic scale to base 2; more is better."""
    value, error = measure.value, measure.error
    if key == "kld":
        return Measure(-value / KLD_PER_HALF, error / KLD_PER_HALF)
    sign = 1 if METRICS[key].higher else -1
    return Measure(sign * math.log2(value), error / value / math.log(2))


def _miss(name: str, metric: Metric, limit: float, candidate: Candidate) -> Miss | None:
    bound, measure = metric.limit(limit), candidate.measures.get(metric.key)
    if measure is None:
        value = shortfall = None
        counts = candidate.uncounted is None or metric.key not in OF_FIDELITY
        text = f"{metric.label} {'was not measured' if counts else 'does not count'} ({bound})"
    elif not metric.is_better(limit, measure.value):
        return None
    else:
        value = measure.value
        shortfall = abs(value - limit) / limit if limit else math.inf
        text = f"{metric.label} {metric.write(value)} ({bound})"
    return Miss(
        constraint=name,
        label=metric.label,
        limit=limit,
        value=value,
        shortfall=shortfall,
        within_noise=measure is not None and measure.ties_with(Measure(limit)),
        text=text,
    )
