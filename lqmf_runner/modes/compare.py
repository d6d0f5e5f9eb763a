"""mode=compare: which of several models to run."""

from __future__ import annotations

from ..config import CompareMode, RunConfig
from ..runs.context import RunContext
from .base import Mode


def check(config: RunConfig) -> None:
    """Refuse a comparison of nothing, or over what is not measured."""
    from ..runs.checks import check_compare

    check_compare(config)


def plan(config: RunConfig) -> object:
    """The loads of one model; none where finished runs are compared."""
    from ..load.plan import BenchmarkPlan

    return None if config.runs else BenchmarkPlan.of(config)


def run(context: RunContext) -> int:
    """Compare the chosen models, or finished runs."""
    from ..runs import compare

    return compare.run(context)


MODE = Mode(
    CompareMode,
    "decide which model to run: speed, memory and fidelity in one table, with a verdict",
    "compare smollm2_q4_k_m smollm2_bnb4 --reference smollm2_bf16 --max-kld 0.1",
    run,
    check=check,
    plan=plan,
    several=True,
)
