"""Which model a user means: a configured one, one in `models_dir`, a path or a hub id, in the words of Hydra."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ..config import RunConfig
from ..config.texts import quoted
from ..errors import UserInputError
from .config_errors import unknown

NO_MODEL = ("~model", "model.name=''")
"""`model=null` in the words of Hydra, which has no null for a group: no group, and a model without a name."""

_PLACES = ("model.name", "model.path", "model.hub_id")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_PART_OF_SPLIT = re.compile(r"-\d{5}-of-\d{5}\Z")


def default_models_dir() -> str:
    """Where models lie if nothing else is said; the same stands in conf/config.yaml."""
    return os.environ.get("LQMF_MODELS", RunConfig.models_dir)


def model_overrides(name: str, configured: Collection[str], models_dir: str | Path) -> list[str]:
    """The overrides that choose the model which a user calls by this name.

    Args:
        configured: the names that have a YAML file; they come first.

    Raises:
        UserInputError: nothing is called that.
    """
    if name in configured:
        return [f"model={name}"]
    root, typed = Path(models_dir), Path(name).expanduser()
    if "/" in name or typed.suffix.lower() == ".gguf":
        key = "path" if (root / typed).exists() or typed.exists() or not _HUB_ID.fullmatch(name) else "hub_id"
        return ["model=local", f"model.{key}={quoted(name)}"]
    from ..models import discover

    found = [model.name for model in discover(root)]
    if name in found or (root / name).exists():
        return ["model=local", f"model.name={quoted(name)}"]
    error = unknown("model", name, {*configured, *found})
    error.hint += "; or give a path or a hub id"
    raise error


def choose_model(overrides: Sequence[str], configured: Collection[str], models_dir: str | Path) -> list[str]:
    """The overrides with a `model=` that Hydra knows.

    `model.name=`, `model.path=` or `model.hub_id=` without `model=` is that model. Without this it would be another
    place, or another name, for the model that is the default.

    Args:
        configured, models_dir: see `model_overrides`.

    Raises:
        UserInputError: one place is given for several models, or `model=` names none.
    """
    keys = {override.partition("=")[0]: override for override in overrides}
    place = next((key for key in _PLACES if key in keys), None)
    if place and "models" in keys and keys["models"] != "models=[]":
        raise UserInputError(
            f"{keys[place]} is one model, and {keys['models']} are several", hint="leave one of them out"
        )
    words: list[str] = []
    for override in overrides:
        key, _, name = override.partition("=")
        if override == "model=null":
            words += NO_MODEL
        elif key == "model" and name and not place and not _left_to_hydra(name, keys):
            words += model_overrides(name, configured, models_dir)
        else:
            words.append(override)
    return [*words, "model=local"] if place and not {"model", "experiment"} & keys.keys() else words


def _left_to_hydra(name: str, keys: Collection[str]) -> bool:
    """Whether it is several models of a sweep, or may lie in a folder that only Hydra knows."""
    return "hydra.searchpath" in keys or not name.isprintable() or any(c in name for c in ",(")


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
