"""The runners: the code that runs the models of a format. Which format has which runner is said in `formats/`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ....errors import MissingDependencyError, UserInputError
from ....formats import Format, find_format, load_target, runs_here
from ....models import inspect_model
from ....types import ModelSpec
from .base import ModelRunner, Progress

if TYPE_CHECKING:
    from .llama_embedding import LlamaEmbedder


def runner_class(format_name: str) -> type[ModelRunner]:
    """The runner of a format, imported on demand.

    Raises:
        UserInputError: there is no such format, or it runs elsewhere.
        MissingDependencyError: a package of the format is not installed.
    """
    format = find_format(format_name)
    if format is None or not format.runner:
        local = ", ".join(format.name for format in runs_here())
        raise UserInputError(f"no runner for format '{format_name}'", hint=f"formats: {local}")
    cls: type[ModelRunner] = _imported(format, format.runner)
    return cls


def load_model(spec: ModelSpec, progress: Progress, reserved: int = 0) -> ModelRunner | LlamaEmbedder:
    """The loaded model: one that generates, or one that is made for embeddings; see `ModelRunner.load`."""
    format = find_format(spec.format)
    if format is not None and format.embedder and inspect_model(spec.path).embeddings:
        embedder: LlamaEmbedder = _imported(format, format.embedder).load(spec, progress)
        return embedder
    return runner_class(spec.format).load(spec, progress, reserved)


def _imported(format: Format, target: str) -> Any:
    try:
        return load_target(target)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{format.label} needs a package that is not installed: {error.name}", hint=format.install
        ) from error
