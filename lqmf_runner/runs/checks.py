"""Checks of combinations in the configuration of a benchmark or a comparison."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ..config import BenchmarkMode, CompareMode, RunConfig, VerdictConfig
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
    """Refuse a comparison of nothing, of a model or a run with itself, or by figures that are not measured.

    Raises:
        UserInputError: it is one.
    """
    assert isinstance(config.mode, CompareMode)
    if config.mode.promote is not None and not config.tracking.enabled:
        raise UserInputError(
            "mode.promote moves an alias in MLflow's registry, and tracking=none is off",
            hint="leave one of them out",
        )
    if config.mode.served is not None:
        _check_served(config)
        return
    if config.models and config.runs:
        raise UserInputError(
            "models and runs are both given",
            hint="models=[a,b] measures models, runs=[x,y] compares what has been measured",
        )
    if config.runs:
        _check_runs(config, config.mode)
    else:
        check_benchmark(config)
    for key, names in (("models", config.models), ("runs", config.runs)):
        if len(set(names)) < len(names):
            raise UserInputError(f"{key}=[{','.join(names)}] names one twice", hint="give each once")
    if not config.models and not config.runs:
        raise UserInputError(
            "there is nothing to compare",
            hint="name models, models=[a,b,c], or finished runs, runs=[outputs/...,outputs/...]",
        )
    if len(config.models) == 1 and not config.reference:
        raise UserInputError(
            f"{config.models[0]} alone cannot be compared",
            hint=f"name another model or a reference; lqmf benchmark {config.models[0]} measures it alone",
        )


def _check_runs(config: RunConfig, mode: CompareMode) -> None:
    _refuse_measuring(config, "runs=")
    changed = _changed("mode", mode, CompareMode(allow_different=mode.allow_different, promote=mode.promote))
    if changed:
        raise UserInputError(
            f"runs= measures nothing, so {changed[0]} would change nothing", hint="leave one of them out"
        )


def _refuse_measuring(config: RunConfig, what: str) -> None:
    """Refuse models that would have to be run."""
    for key, given in (("reference", config.reference), ("judge.model", config.judge.model)):
        if given:
            raise UserInputError(
                f"{what} measures nothing, and {key}={given} has to be run", hint="leave one of them out"
            )


def _check_served(config: RunConfig) -> None:
    if config.models:
        raise UserInputError(
            "mode.served judges what was served, and models are given to be measured",
            hint="leave one of them out",
        )
    _refuse_measuring(config, "mode.served")
    if config.verdict.bounds:
        raise UserInputError(
            f"verdict.{next(iter(config.verdict.bounds))} bounds what is measured, and mode.served measures nothing",
            hint="leave one of them out",
        )
    assert isinstance(config.mode, CompareMode)
    takes = CompareMode(served=config.mode.served, promote=config.mode.promote)
    changed = [*_changed("mode", config.mode, takes), *_changed("verdict", config.verdict, VerdictConfig())]
    if changed:
        raise UserInputError(
            f"mode.served measures nothing and ranks by what was served, so {changed[0]} would change nothing",
            hint="leave one of them out",
        )


def _changed(prefix: str, given: Any, default: Any) -> list[str]:
    """The keys of the settings in which two configurations of one type differ."""
    return [
        f"{prefix}.{field.name}"
        for field in fields(default)
        if getattr(given, field.name) != getattr(default, field.name)
    ]


def _check_against(config: RunConfig) -> None:
    against = config.judge.against
    names = [*(config.models or [config.model.name]), *([config.reference] if config.reference else [])]
    if config.judge.model is not None and against is not None and against not in names:
        raise UserInputError(
            f"judge.against={against} does not run here", hint=f"choose one of: {', '.join(names)}"
        )
