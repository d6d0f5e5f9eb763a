"""Which models qualify, and what counts in their ranking."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TypeVar

from ..errors import UserInputError
from ..results.metrics import ANY, bounds
from .checks import positive, within

Config = TypeVar("Config")


@dataclass(frozen=True)
class WeightsConfig:
    """What counts how much in the ranking; only the ratios matter, 0 leaves one out."""

    speed: float = 1.0
    memory: float = 1.0
    fidelity: float = 1.0

    def __post_init__(self) -> None:
        weights = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, weight in weights.items():
            within(f"verdict.weights.{name}", weight, 0)
        if not any(weights.values()):
            raise UserInputError(
                "all verdict.weights are 0", hint="give at least one of speed, memory and fidelity a weight"
            )


def _with_bounds(cls: type[Config]) -> type[Config]:
    """Give the class a field for each bound in the table of metrics, so that none is listed twice."""
    for name in bounds():
        cls.__annotations__[name] = "float | None"
        setattr(cls, name, None)
    return cls


@dataclass(frozen=True, kw_only=True)
@_with_bounds
class VerdictConfig:
    """Which models qualify, and how those that do are ranked.

    Each metric with limits in `results.metrics.METRICS` has a field here, null by default: `max_kld`, `min_top1`,
    `max_memory_mb` and so on. docs/metrics.md lists them. A bound that is null does not bind.

    Attributes:
        concurrency: of the load that speed, TTFT and success rate are taken from; null is the lowest one.
    """

    concurrency: int | None = None
    weights: WeightsConfig = field(default_factory=WeightsConfig)

    def __post_init__(self) -> None:
        metrics = bounds()
        for name, bound in self.bounds.items():
            low, high = metrics[name].limits or ANY
            within(f"verdict.{name}", bound, low, high)
            if not metrics[name].zero:  # nothing is below such a bound, or all is above it
                positive(f"verdict.{name}", bound)

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that are given, e.g. {"max_kld": 0.1}, in the order of the table."""
        given = {name: getattr(self, name) for name in bounds()}
        return {name: bound for name, bound in given.items() if bound is not None}
