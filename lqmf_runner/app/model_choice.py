"""Which model the command line means, in the words of Hydra, and the name of a model that is given by its place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ..errors import UserInputError

NO_MODEL = ("~model", "model.name=''")
"""`model=null` in the words of Hydra, which has no null for a group: no group, and a model without a name."""

_PLACES = ("model.name", "model.path", "model.hub_id")
_PART_OF_SPLIT = re.compile(r"-\d{5}-of-\d{5}\Z")


def choose_model(overrides: Sequence[str]) -> list[str]:
    """The overrides with a `model=` that is meant but not typed.

    A name, a path or a hub id without `model=` is that model. Without this it would be another place, or another name,
    for the model that is the default.

    Raises:
        UserInputError: one place is given for several models.
    """
    keys = {override.partition("=")[0]: override for override in overrides}
    place = next((key for key in _PLACES if key in keys), None)
    if place and "models" in keys and keys["models"] != "models=[]":
        raise UserInputError(
            f"{keys[place]} is one model, and {keys['models']} are several", hint="leave one of them out"
        )
    words = [
        word for override in overrides for word in (NO_MODEL if override == "model=null" else (override,))
    ]
    return [*words, "model=local"] if place and not {"model", "experiment"} & keys.keys() else words


def name_by_place(composed: DictConfig) -> None:
    """Give a model that has a path or a hub id, and no name, the name of that file, folder or repository."""
    model = composed.model
    if not OmegaConf.is_missing(model, "name"):
        return
    if path := model.path:
        place = Path(path).expanduser()
        stem = place.stem if place.suffix.lower() == ".gguf" else place.name
        model.name = _PART_OF_SPLIT.sub("", stem or place.resolve().name)
    elif model.hub_id:
        model.name = model.hub_id.rpartition("/")[2]
