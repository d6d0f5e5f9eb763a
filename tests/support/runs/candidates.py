"""Models with figures that a verdict over them can be worked out from by hand."""

from __future__ import annotations

from lqmf_runner.config import VerdictConfig
from lqmf_runner.verdict.ranking import Candidate, Measure


def candidate(
    name: str, speed: float, memory: float, kld: float | None, *, noise: float = 0.0, **more: float
) -> Candidate:
    """A model with these figures, each with a relative standard error of `noise`."""
    values = {"tokens_per_s": speed, "memory_mb": memory, "kld": kld, **more}
    return Candidate(name, {k: Measure(v, noise * v) for k, v in values.items() if v is not None})


Q4 = candidate("q4", 160, 300, 0.02, top1=0.93)
NF4 = candidate("nf4", 140, 140, 0.20, top1=0.77)
BF16 = candidate("bf16", 80, 600, 0.0, top1=1.0)
DAMAGED = candidate("damaged", 170, 290, 6.0, top1=0.03)
PLAIN = VerdictConfig()
