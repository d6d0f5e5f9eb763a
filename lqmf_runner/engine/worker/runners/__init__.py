"""Formats by name. A new format is one file here, one line below, and one `conf/backend/*.yaml`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ....errors import UserInputError
from ....models import inspect_model
from ....types import ModelSpec
from .base import ModelRunner, Progress

if TYPE_CHECKING:
    from .llama_embedding import LlamaEmbedder

RUNNERS = {
    "gguf": "llama_cpp:LlamaCppRunner",
    "bnb": "transformers:TransformersRunner",
    "gptq": "transformers:TransformersRunner",
    "transformers": "transformers:TransformersRunner",
}


def runner_class(format_name: str) -> type[ModelRunner]:
    """The runner of a format, imported on demand.

    Raises:
        UserInputError: there is no such format.
    """
    if format_name not in RUNNERS:
        raise UserInputError(f"no runner for format '{format_name}'", hint=f"formats: {', '.join(RUNNERS)}")
    module, _, name = RUNNERS[format_name].partition(":")
    cls: type[ModelRunner] = getattr(import_module(f".{module}", __name__), name)
    return cls


def load_model(spec: ModelSpec, progress: Progress) -> ModelRunner | LlamaEmbedder:
    """The loaded model: one that generates, or one that is made for embeddings; see `ModelRunner.load`."""
    if spec.format == "gguf" and inspect_model(spec.path).embeddings:
        from .llama_embedding import LlamaEmbedder

        return LlamaEmbedder.load(spec, progress)
    return runner_class(spec.format).load(spec, progress)
