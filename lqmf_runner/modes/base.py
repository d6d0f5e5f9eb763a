"""What a mode is: an entry of the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..config import ModeConfig, RunConfig
from ..runs.context import RunContext


@dataclass(frozen=True)
class Mode:
    """What the program knows about one mode.

    Attributes:
        schema: dataclass of the mode's own settings, the group `mode`. Its default `name` is the mode's name.
        summary, example: what --help prints; the example begins with the name.
        run: does what the mode is for, and returns the exit code.
        check: refuses settings of a run that do not go together, with a UserInputError.
        plan: what `run` will do with one model. It is made once for each model and handed over as `RunContext.plans`.
            It refuses what cannot be done, with a UserInputError.
        runs_models: whether a run reads the weights of its models; then a model that is not there is refused.
        needs_model: a model must be chosen, with `model` or `models`.
        several: `models=[a,b]` is accepted.
        leaves_folder: the run has a folder, with its configuration and its log.

    `check`, `plan` and `runs_models` are called before the run's folder is made, so that a refused run leaves nothing
    behind.
    """

    schema: type[ModeConfig]
    summary: str
    example: str
    run: Callable[[RunContext], int]
    check: Callable[[RunConfig], None] | None = None
    plan: Callable[[RunConfig], object] | None = None
    runs_models: Callable[[RunConfig], bool] | None = None
    needs_model: bool = True
    several: bool = False
    leaves_folder: bool = True

    @property
    def name(self) -> str:
        """What `mode=` selects it by."""
        return self.schema.name


def always(config: RunConfig) -> bool:
    """Of a mode that cannot run without its models."""
    return True
