"""The folders that hold models. New models are made in the first; a link may lead from one into another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

Folders = str | Path | Sequence[str | Path]
"""One folder of models, or several in the order in which a name is looked up."""


def roots_of(folders: Folders) -> tuple[Path, ...]:
    """The folders as paths."""
    several = [folders] if isinstance(folders, (str, Path)) else folders
    return tuple(map(Path, several))


def is_inside(place: Path, folders: Folders) -> bool:
    """Whether a path is in one of the folders itself, and not behind a link to another place."""
    real = place.resolve()
    return any(real.is_relative_to(root.resolve()) for root in roots_of(folders))


def shown(folders: Folders) -> str:
    """The folders as text: "quantized-models/ and /big/models/"."""
    return " and ".join(f"{os.fspath(root).rstrip('/')}/" for root in roots_of(folders))
