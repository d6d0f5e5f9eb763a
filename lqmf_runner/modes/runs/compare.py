"""mode=compare: which of several models to run."""

from __future__ import annotations

from ...config import CompareMode, RunConfig
from ...errors import UserInputError
from ...runs.context import RunContext
from ..base import Mode


def check(config: RunConfig) -> None:
    """Refuse a comparison of nothing, or over what is not measured."""
    from ...runs.checks import check_compare

    check_compare(config)


def plan(config: RunConfig) -> object:
    """The loads of one model; none where nothing is measured."""
    from ...load.plan import BenchmarkPlan

    return BenchmarkPlan.of(config) if runs_models(config) else None


def runs_models(config: RunConfig) -> bool:
    """Whether something is measured."""
    assert isinstance(config.mode, CompareMode)
    return not (config.runs or config.mode.served)


def run(context: RunContext) -> int:
    """Compare the chosen models, finished runs, or versions by what they have served."""
    mode = context.config.mode
    assert isinstance(mode, CompareMode)
    if mode.served is not None:
        from ...runs.versions.served import compare_served

        return compare_served(context, context.config.runs or _running_servers())
    from ...runs import compare

    return compare.run(context)


def _running_servers() -> list[str]:
    """The folders of the servers that run.

    Raises:
        UserInputError: there is none.
    """
    from ...server.process.registry import running_servers

    folders = [server.run_dir for server in running_servers()]
    if not folders:
        raise UserInputError(
            "no server is running", hint="name the folder of one: runs=[outputs/<date>/<time>-serve]"
        )
    return folders


MODE = Mode(
    CompareMode,
    "decide which model to run: speed, memory and fidelity in one table, with a verdict",
    "compare smollm2_q4_k_m smollm2_bnb4 --reference smollm2_bf16 --max-kld 0.1",
    run,
    check=check,
    plan=plan,
    runs_models=runs_models,
    several=True,
)
