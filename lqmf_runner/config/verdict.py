"""Which models qualify, and what counts in their ranking."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from ..errors import UserInputError
from .checks import within


@dataclass(frozen=True)
class WeightsConfig:
    """What counts how much in the ranking of `quality.verdict`; only the ratios matter, 0 leaves one out."""

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


@dataclass(frozen=True)
class VerdictConfig:
    """Which models qualify, and how those that do are ranked. A bound that is null does not bind.

    Attributes:
        max_memory_mb: resident memory of the worker, and what it holds on GPUs.
        max_size_mb: of the weights on disk.
        max_load_time_s: until the model answers.
        min_tokens_per_s: output tokens per second, at `concurrency`.
        max_ttft_s: median time to the first token, at `concurrency`.
        min_success_rate: share of requests answered, at `concurrency`.
        max_kld: mean KL divergence from the reference.
        min_top1: share of positions with the reference's most likely token.
        max_perplexity: on the evaluation text.
        min_heuristic: heuristic quality of the answers.
        concurrency: of the load that speed is taken from; null is the lowest one.
    """

    max_memory_mb: float | None = None
    max_size_mb: float | None = None
    max_load_time_s: float | None = None
    min_tokens_per_s: float | None = None
    max_ttft_s: float | None = None
    min_success_rate: float | None = None
    max_kld: float | None = None
    min_top1: float | None = None
    max_perplexity: float | None = None
    min_heuristic: float | None = None
    concurrency: int | None = None
    weights: WeightsConfig = field(default_factory=WeightsConfig)

    def __post_init__(self) -> None:
        for name, bound in self.bounds.items():
            share = name in ("min_success_rate", "min_top1", "min_heuristic")
            within(f"verdict.{name}", bound, 1 if name == "max_perplexity" else 0, 1 if share else None)

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that are given, e.g. {"max_kld": 0.1}."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name.startswith(("min_", "max_"))}
        return {name: bound for name, bound in given.items() if bound is not None}
