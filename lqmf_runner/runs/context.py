"""The input of a mode: one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..errors import UserInputError


def _no_compose(name: str, *overrides: str) -> RunConfig:
    raise UserInputError(f"there is no configuration to compose model '{name}' from")


@dataclass(frozen=True)
class RunContext:
    """One run.

    Attributes:
        config: the run's configuration; with `models`, its model is not run.
        models: one configuration for each entry of `models=[a,b]`, else just `config`.
        resolved: the resolved configuration as plain values, secrets redacted.
        run_dir: the run's folder; it exists.
        command: the command line, secrets redacted, ready to be pasted.
        arguments: the command line for a program that this run starts, with its secrets.
        sweep_dir: the sweep's folder when the run is one job of a sweep.
        model_names: all model configs there are.
        compose: the configuration of one of them under this run's overrides, and more of them.
        reference: the configuration of the model that fidelity is measured against.
        plans: what the mode does with each of `models`, where it has plans (`Mode.plan`).
        sends: whether this process sends the run to MLflow; a launcher does it for the jobs of its sweep.
        judge, embedder: of the models that grade the answers; None where none is asked for.
    """

    config: RunConfig
    models: tuple[RunConfig, ...]
    resolved: dict[str, Any]
    run_dir: Path
    command: str
    arguments: tuple[str, ...] = ()
    sweep_dir: Path | None = None
    model_names: tuple[str, ...] = ()
    compose: Callable[..., RunConfig] = _no_compose
    plans: tuple[Any, ...] = ()
    reference: RunConfig | None = None
    judge: RunConfig | None = None
    embedder: RunConfig | None = None
    sends: bool = True
