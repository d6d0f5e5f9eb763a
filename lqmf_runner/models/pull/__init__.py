"""Fetches a model from the hub into the models folder: the choice of files, resumable downloads, and verification."""

from .choice import Choice, SeveralModelsError, Variant, choose
from .fetch import Pull, pull
from .repository import HubFile, Repository, read_repository

__all__ = [
    "Choice", "HubFile", "Pull", "Repository", "SeveralModelsError", "Variant", "choose", "pull", "read_repository",
]  # fmt: skip
