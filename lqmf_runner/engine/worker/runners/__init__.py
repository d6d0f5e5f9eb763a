"""The runners: the code that runs the models of a format. Which format has which runner is said in `formats/`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....errors import UserInputError
from ....formats import find_format, load_target, runs_here
from ....models import inspect_model
from ....types import ModelSpec
from .base import ModelRunner, Progress

if TYPE_CHECKING:
    from .llama_embedding import LlamaEmbedder


def runner_class(format_name: str) -> type[ModelRunner]:
    """The runner of a format, imported on demand.

    Raises:
        UserInputError: there is no such format, or it runs elsewhere.
    """
    format = find_format(format_name)
    if format is None or not format.runner:
        local = ", ".join(format.name for format in runs_here())
        raise UserInputError(f"no runner for format '{format_name}'", hint=f"formats: {local}")
    cls: type[ModelRunner] = load_target(format.runner)
    return cls


def load_model(spec: ModelSpec, progress: Progress) -> ModelRunner | LlamaEmbedder:
    """The loaded model: one that generates, or one that is made for embeddings; see `ModelRunner.load`."""
    format = find_format(spec.format)
    if format is not None and format.embedder and inspect_model(spec.path).embeddings:
        embedder: LlamaEmbedder = load_target(format.embedder).load(spec, progress)
        return embedder
    return runner_class(spec.format).load(spec, progress)
