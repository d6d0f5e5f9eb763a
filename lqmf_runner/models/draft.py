"""Draft models: which model can draft for which, as far as their files say."""

from __future__ import annotations

from pathlib import Path

from ..errors import ModelNotFoundError, ModelUnusableError, UserInputError
from ..formats import find_format
from .found import FoundModel
from .inspect import inspect_model


def find_draft(path: str, format_name: str, name: str) -> FoundModel:
    """The draft model at `path`, which is for the model `name` of this format.

    Raises:
        ModelNotFoundError: nothing is there.
        ModelUnusableError: its files are damaged, or it generates no text.
        UserInputError: it needs another runner, or the model runs elsewhere.
    """
    refuse_elsewhere(format_name, name)
    if not Path(path).exists():
        raise ModelNotFoundError(
            f"the draft model of '{name}' is not on this machine: there is no {path}",
            hint="put it there, or leave out backend.draft_model",
        )
    draft = inspect_model(Path(path))
    if draft.problem:
        raise ModelUnusableError(
            f"the draft model '{draft.name}' cannot be used: {draft.problem}",
            hint="fetch its files again, or leave out backend.draft_model",
        )
    if draft.embeddings:
        raise ModelUnusableError(
            f"the draft model '{draft.name}' is made for embeddings and generates no text",
            hint="take a smaller model of the same family",
        )
    format, own = find_format(format_name), find_format(draft.format)
    if format is None or own is None or own.runner != format.runner:
        kind, wanted = (known.label if known else "of an unknown format" for known in (own, format))
        raise UserInputError(
            f"the draft model '{draft.name}' is {kind} and '{name}' is {wanted}: one program has to run both",
            hint="take a GGUF for a GGUF, and a Hugging Face folder for a Hugging Face folder",
        )
    return draft


def refuse_elsewhere(format_name: str, name: str) -> None:
    """Refuse a draft model for a model that does not run here.

    Raises:
        UserInputError: it does not.
    """
    format = find_format(format_name)
    if format is None or format.remote:
        raise UserInputError(
            f"backend.draft_model is for models that run here, and '{name}' does not",
            hint="leave it out; a program that is started here takes a draft model by its own backend.flags",
        )
