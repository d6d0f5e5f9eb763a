"""mode=benchmark: speed, memory and answer quality of one or several models, one after the other."""

from __future__ import annotations

from ...config import BenchmarkMode, RunConfig
from ...runs.context import RunContext
from ..base import Mode, always


def check(config: RunConfig) -> None:
    """Refuse a verdict or a judge that needs what this run does not measure."""
    from ...runs.checks import check_benchmark

    check_benchmark(config)


def plan(config: RunConfig) -> object:
    """The loads of one model."""
    from ...load.plan import BenchmarkPlan

    return BenchmarkPlan.of(config)


def run(context: RunContext) -> int:
    """Measure the chosen models."""
    from ...runs import benchmark

    return benchmark.run(context)


MODE = Mode(
    BenchmarkMode,
    "measure speed, memory and answer quality of a model under load",
    "benchmark smollm2_gguf prompts=general",
    run,
    check=check,
    runs_models=always,
    plan=plan,
    several=True,
)
