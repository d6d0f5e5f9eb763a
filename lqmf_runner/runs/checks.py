"""What does not go together in the configuration of a benchmark or a comparison."""

from __future__ import annotations

from ..config import BenchmarkMode, RunConfig
from ..errors import UserInputError
from ..results.metrics import bounds


def check_benchmark(config: RunConfig) -> None:
    """Refuse a verdict over figures that this run does not measure, and a judge's opponent that does not run.

    Raises:
        UserInputError: there is one.
    """
    mode = config.mode
    assert isinstance(mode, BenchmarkMode)
    needs_reference = (
        bool(config.reference and config.fidelity.enabled),
        "name the unquantized model: reference=<model>",
    )
    needs_loop = (bool(mode.concurrency), "give mode.concurrency, e.g. [1]")
    measured_with = {
        **dict.fromkeys(("kld", "top1_agreement", "perplexity"), needs_reference),
        "heuristic": (mode.heuristic, "set mode.heuristic=true"),
    }
    for name in config.verdict.bounds:
        metric = bounds()[name]
        measured, hint = needs_loop if metric.of_load else measured_with.get(metric.field, (True, ""))
        if not measured:
            raise UserInputError(f"verdict.{name} bounds what this run does not measure", hint=hint)
    _check_against(config)
    users = config.verdict.concurrency
    if users is not None and users not in mode.concurrency:
        raise UserInputError(
            f"verdict.concurrency={users} is not among mode.concurrency={list(mode.concurrency)}",
            hint="take the speed from a load that is run",
        )


def check_compare(config: RunConfig) -> None:
    """Refuse a comparison of nothing, of a model or a run with itself, or over what is not measured.

    Raises:
        UserInputError: it is one.
    """
    if not config.runs:
        check_benchmark(config)
    if config.models and config.runs:
        raise UserInputError(
            "models and runs are both given",
            hint="models=[a,b] measures models, runs=[x,y] compares what has been measured",
        )
    for key, names in (("models", config.models), ("runs", config.runs)):
        if len(set(names)) < len(names):
            raise UserInputError(f"{key}=[{','.join(names)}] names one twice", hint="give each once")
    if not config.models and not config.runs:
        raise UserInputError(
            "there is nothing to compare",
            hint="name models, models=[a,b,c], or finished runs, runs=[outputs/...,outputs/...]",
        )


def _check_against(config: RunConfig) -> None:
    against = config.judge.against
    names = [*(config.models or [config.model.name]), *([config.reference] if config.reference else [])]
    if config.judge.model is not None and against is not None and against not in names:
        raise UserInputError(
            f"judge.against={against} does not run here", hint=f"choose one of: {', '.join(names)}"
        )
