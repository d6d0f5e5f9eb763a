"""Formats by name. A new format is one file here, one line below, and one `conf/backend/*.yaml`."""

from __future__ import annotations

from importlib import import_module

from ...errors import UserInputError
from .base import ModelRunner

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
