"""Which model a user means: a configured one, one in `models_dir`, a path or a hub id, in the words of Hydra."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ...config.model import HUB_ID_HINT
from ...config.run import MODELS_DIR
from ...config.texts import quoted
from ...errors import UserInputError
from ...models.roots import Folders, roots_of
from ..config_errors import unknown

NO_MODEL = ("~model", "model.name=''")
"""`model=null` in the words of Hydra, which has no null for a group: no group, and a model without a name."""

_PLACES = ("model.name", "model.path", "model.hub_id")
_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*)(?::([\w.-]+))?")
_HUB_PAGE = re.compile(r"(?:https?://)?(?:hf\.co|huggingface\.co)/")
_PAGE_OF_FILE = re.compile(r"([^/]+/[^/]+)/(?:blob|resolve|tree)/([^/]+)(?:/([^?#]+))?.*")
_PART_OF_SPLIT = re.compile(r"-\d{5}-of-\d{5}\Z")


def default_models_dir() -> list[str]:
    """Where models lie if nothing else is said: in the folders of LQMF_MODELS, written as those of PATH."""
    named = os.environ.get("LQMF_MODELS", "").split(os.pathsep)
    return [os.path.expanduser(folder) for folder in named if folder] or [MODELS_DIR]


def fill_models_dir(composed: DictConfig) -> None:
    """Give a run that names no folder of models the usual ones."""
    if not composed.models_dir:
        composed.models_dir = default_models_dir()


def model_overrides(name: str, configured: Collection[str], models_dir: Folders) -> list[str]:
    """The overrides that choose the model which a user calls by this name.

    Args:
        configured: the names that have a YAML file; they come first.

    Raises:
        UserInputError: nothing is called that.
    """
    if name in configured:
        return [f"model={name}"]
    roots, typed = roots_of(models_dir), Path(name).expanduser()
    if "/" in name or typed.suffix.lower() == ".gguf":
        if not any(place.exists() for place in (typed, *(root / typed for root in roots))):
            if on_hub := _hub_words(name):
                return ["model=local", *on_hub]
            if version := _version_overrides(name, configured):
                return version
        return ["model=local", f"model.path={quoted(name)}"]
    from ...models import discover

    found = [model.name for model in discover(roots)]
    if name in found or any((root / name).exists() for root in roots):
        return ["model=local", f"model.name={quoted(name)}"]
    if version := _version_overrides(name, configured):
        return version
    error = unknown("model", name, {*configured, *found})
    error.hint += "; or give a path or a hub id"
    raise error


def _hub_words(name: str) -> list[str]:
    """The overrides for a hub id, one with the type of a GGUF (`owner/name:Q4_K_M`), or a page of the hub.

    Nothing if it is none of these.
    """
    plain = _HUB_PAGE.sub("", name, count=1)
    if page := _PAGE_OF_FILE.fullmatch(plain) if plain != name else None:
        hub_id, revision, file = page.groups()
        words = [f"model.hub_id={quoted(hub_id)}", f"model.revision={quoted(revision)}"]
        return [*words, *([f"model.file={quoted(file)}"] if file and file.lower().endswith(".gguf") else [])]
    if found := _HUB_ID.fullmatch(plain):
        hub_id, kind = found.groups()
        return [f"model.hub_id={quoted(hub_id)}", *([f"model.file={quoted(f'*{kind}*')}"] if kind else [])]
    return []


def _version_overrides(name: str, configured: Collection[str]) -> list[str]:
    """The overrides for `model@champion` or `model@3`, which is looked up once all is composed; else none."""
    from ...models.registered import split_reference

    parts = split_reference(name)
    if parts is None:
        return []
    model, which = parts
    choice = f"model={model}" if model in configured else "model=local"
    last = model.rpartition("/")[2].removesuffix(".gguf")
    return [choice, f"model.name={quoted(f'{last}@{which}')}", f"model.version={quoted(which)}"]


def choose_model(overrides: Sequence[str], configured: Collection[str], models_dir: Folders) -> list[str]:
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
        elif key == "model" and name and not place and not _left_to_hydra(name, keys, models_dir):
            if keys.get("mode") == "mode=pull" and "/" not in name and name not in configured:
                error = unknown("model", name, configured)
                error.hint = HUB_ID_HINT
                raise error
            words += model_overrides(name, configured, models_dir)
        else:
            words.append(override)
    return [*words, "model=local"] if place and not {"model", "experiment"} & keys.keys() else words


def _left_to_hydra(name: str, keys: Collection[str], models_dir: Folders) -> bool:
    """Whether it is several models of a sweep, or may lie in a folder that only Hydra knows.

    What is there is one model, also `model (1).gguf`.
    """
    if "hydra.searchpath" in keys or not name.isprintable():
        return True
    places = (Path(name).expanduser(), *(root / name for root in roots_of(models_dir)))
    return any(c in name for c in ",(") and not any(map(_is_there, places))


def _is_there(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:  # a list of models that is too long for a path, say
        return False


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
