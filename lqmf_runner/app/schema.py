"""The schemas as a tree of keys: which type stands at `prompts.entries.0.prompt`."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from .. import config as schemas
from ..config import RunConfig
from ..config.texts import FilePath, Typed
from ..formats import backend_schemas
from ..modes import MODES

_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")


def group_schemas() -> dict[str, dict[str, type]]:
    """The schemas of each group by name."""
    return {
        "model": {"model": schemas.ModelConfig},
        "backend": {**backend_schemas()},
        "prompts": {"prompts": schemas.PromptsConfig},
        "mode": {name: mode.schema for name, mode in MODES.items()},
        "placement": {"placement": schemas.PlacementConfig},
        "server": {"server": schemas.ServerConfig},
        "tracking": {"mlflow": schemas.TrackingConfig},
    }


@dataclass(frozen=True)
class Place:
    """A place in the configuration, with the types it may have: a group has one for each of its schemas."""

    hints: tuple[Any, ...]

    @property
    def typed(self) -> Typed | None:
        """How the text that stands here is read; None if no text stands here."""
        found = [
            note
            for hint in self.hints
            for note in getattr(hint, "__metadata__", ())
            if isinstance(note, Typed)
        ]
        return min(found, key=lambda typed: typed.resolved, default=None)

    @property
    def items(self) -> Place | None:
        """The place of a list's items; None if no list stands here."""
        found = tuple(item for hint in self.hints if get_origin(hint) is list for item in get_args(hint))
        return _place(found) if found else None

    @property
    def is_list(self) -> bool:
        """Whether nothing but a list stands here."""
        return bool(self.hints) and all(get_origin(hint) is list for hint in self.hints)

    @property
    def has_keys(self) -> bool:
        """Whether a group of keys stands here."""
        return any(map(is_dataclass, self.hints))

    def child(self, key: str) -> Place:
        """The place of a key in a group, or of an item of a list by its number."""
        if self.items is not None and key.isdigit():
            return self.items
        if self.hints == (RunConfig,) and key in (groups := group_schemas()):
            return Place((*groups[key].values(),))
        fields = (_fields(hint) for hint in self.hints if isinstance(hint, type))
        return _place(known[key] for known in fields if key in known)


def place_of(key: str, mode: str | None = None) -> Place:
    """The place of a key such as `mode.message`; the empty key is the root.

    Args:
        mode: the one that is chosen, if that is known: keys of the same name are of different types in other modes.
    """
    if key in _FOLDERS:
        return Place((FilePath,))
    parts = [part for part in key.split(".") if part]
    place = Place((RunConfig,))
    if parts[:1] == ["mode"] and mode in MODES:
        place, parts = Place((MODES[mode].schema,)), parts[1:]
    for part in parts:
        place = place.child(part)
    return place


def _place(hints: Any) -> Place:
    return Place(tuple(inner for hint in hints for inner in _without_none(hint)))


def _without_none(hint: Any) -> Iterator[Any]:
    if get_origin(hint) in (Union, types.UnionType):
        yield from (inner for inner in get_args(hint) if inner is not type(None))
    else:
        yield hint


@cache
def _fields(schema: type) -> dict[str, Any]:
    return (
        get_type_hints(schema, include_extras=True)
        if isinstance(schema, type) and is_dataclass(schema)
        else {}
    )
