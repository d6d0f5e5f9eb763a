"""Fetches a model from the hub into the models folder: what it takes, the files in parts that are kept, the proof."""

from .choice import Choice, SeveralModelsError, Variant, choose
from .fetch import Pull, pull
from .repository import HubFile, Repository, read_repository

__all__ = [
    "Choice", "HubFile", "Pull", "Repository", "SeveralModelsError", "Variant", "choose", "pull", "read_repository",
]  # fmt: skip
