"""Finds the weights that a configuration names: a local folder or file, an installed package, or the hub. Fits the
backend to them.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from ..config import BackendConfig, ModelConfig
from ..errors import ModelNotFoundError, ModelUnusableError, UserInputError
from ..formats import AUTO, get_format, is_remote
from ..install import pip_line
from ..types import ModelSpec, Placement
from .demo_family import DEMO_FOLDERS
from .discover import discover
from .draft import find_draft, refuse_elsewhere
from .found import FoundModel
from .inspect import gguf_files, inspect_model, is_checkpoint
from .pull.record import pulled_folder
from .roots import Folders, is_inside, roots_of, shown


def locate(
    model: ModelConfig,
    backend: BackendConfig,
    folders: Folders,
    *,
    download: bool = True,
    placement: Placement = Placement(),  # noqa: B008 (frozen)
) -> ModelSpec:
    """The model's path, its properties, and the settings of the backend that fits it.

    The first place that exists wins: `path`, the installed package, the hub's cache, the hub. A model with none of
    these is looked up by its name in `folders`. A hub id is also looked up among the folders that mode=pull made.

    Args:
        backend: its `draft_model`, if there is one, is a path.
        download: whether the hub itself may be asked.
        placement: where its workers run; an endpoint has none.

    Raises:
        ModelNotFoundError: no such model, or its weights are missing and the hub cannot be reached.
        ModelUnusableError: its files are damaged, of an unknown format, or refused as unsafe.
        UserInputError: the name is not one, or the backend's format is another than the files'.
    """
    if is_remote(backend.format):
        if backend.draft_model is not None:
            refuse_elsewhere(backend.format, model.name)
        options = dataclasses.asdict(backend)
        if get_format(backend.format).program is None:
            return ModelSpec(name=model.name, format=backend.format, path="", options=options)
        path = _for_program(model, roots_of(folders))
        return ModelSpec(
            name=model.name, format=backend.format, path=path, options=options, placement=placement
        )
    if model.version is not None:
        raise ModelNotFoundError(f"{model.name}: its version {model.version} was not looked up")
    trusted = getattr(backend, "trust_remote_code", False)
    found = find(model, folders, trust_remote_code=trusted, download=download)
    fitted = fit_backend(backend, found, model.name)
    if fitted.draft_model is not None:
        find_draft(fitted.draft_model, fitted.format, model.name)
    return ModelSpec(
        name=model.name,
        format=fitted.format,
        path=found.path,
        version=found.version,
        options=dataclasses.asdict(fitted),
        placement=placement,
    )


def require(model: ModelConfig, backend: BackendConfig, folders: Folders) -> None:
    """Refuse a model that cannot be there. Its files are not read, and a hub is not asked.

    Raises:
        ModelNotFoundError: no such model, or its weights are missing.
        UserInputError: the name is not one.
    """
    if not is_remote(backend.format) or get_format(backend.format).program is not None:
        _find_path(model, roots_of(folders))


def find(
    model: ModelConfig, folders: Folders, *, trust_remote_code: bool = False, download: bool = True
) -> FoundModel:
    """Locate and inspect the files of a model; see `locate`."""
    path = _find_path(model, roots_of(folders))
    if path is not None and path.is_dir() and model.file:
        path = _pick_file(path, model)
    if path is None:
        from .hub import fetch

        path = fetch(model, download=download)
    found = inspect_model(path.absolute(), trust_remote_code=trust_remote_code)
    if model.digest is not None and found.version != model.digest:
        raise ModelUnusableError(
            f"the files of {model.name} have changed: they are {found.version} now, not {model.digest}",
            hint="put them back, or leave out the version",
        )
    return found


def _for_program(model: ModelConfig, roots: Sequence[Path]) -> str:
    """The argument for a program that serves the model: the path of its files, or its id on the hub."""
    path = _find_path(model, roots)
    return str(path.absolute()) if path is not None else str(model.hub_id)


def fit_backend(backend: BackendConfig, found: FoundModel, name: str) -> BackendConfig:
    """The backend's settings in the dataclass of the files' format.

    Raises:
        UserInputError: the config asks for another format.
    """
    if backend.format == AUTO:
        cls = get_format(found.format).backend
        valid = {f.name for f in dataclasses.fields(cls) if f.name != "format"}
        given = {f.name for f in dataclasses.fields(backend)}
        return cls(**{key: getattr(backend, key) for key in valid & given})
    quantize_on_load = getattr(backend, "quantize_on_load", None)
    if quantize_on_load and found.format == backend.format:
        raise UserInputError(
            f"{name} is quantized already ({found.method})", hint="leave out backend.quantize_on_load"
        )
    unquantized = get_format(found.format).unquantized
    if backend.format == found.format or (quantize_on_load and unquantized):
        return backend
    hint = f"use backend={found.format}, or backend.format=auto"
    if get_format(backend.format).quantizes_on_load and unquantized:
        hint += "; or backend.quantize_on_load=4bit"
    raise UserInputError(
        f"{name} is a {found.format} model ({found.method}), not {backend.format}", hint=hint
    )


def _find_path(model: ModelConfig, roots: Sequence[Path]) -> Path | None:
    """The model's path on this machine, without asking the hub. None if the hub is to be asked."""
    if model.path is None and model.package is None and model.hub_id is None:
        return _by_name(model.name, roots)
    if model.path is not None:
        if not model.path or "\0" in model.path:
            raise UserInputError(f"model.path={model.path!r} is not a path")
        typed = Path(model.path).expanduser()
        # The last is relative to the current folder, as a shell completes it.
        for place in (*(root / typed for root in roots), typed):
            if place.exists():
                return place
    packaged = _in_package(model)
    if packaged is not None:
        return packaged
    if model.hub_id is not None:
        return pulled_folder(model.hub_id, roots)
    raise ModelNotFoundError(
        f"the weights of {model.name} are missing: {_tried(model)}", hint=_how_to_get(model)
    )


def _by_name(name: str, roots: Sequence[Path]) -> Path:
    if not name or name.startswith(".") or any(c in name for c in "/\\\0"):
        raise UserInputError(
            f"model.name={name!r} is not the name of a model",
            hint="a name has no slashes; for a path set model.path",
        )
    for place in (root / file for root in roots for file in (name, f"{name}.gguf", f"{name}.GGUF")):
        if place.is_file() or (place.is_dir() and ((place / "config.json").exists() or gguf_files(place))):
            return _inside(place, roots)
    available = discover(roots)
    for found in available:
        if found.name == name:
            return _inside(Path(found.path), roots)
    if inner := [found.name for found in available if found.name.startswith(f"{name}--")]:
        raise ModelNotFoundError(
            f"{name} holds {len(inner)} models", hint=f"name one: model.name={' or model.name='.join(inner)}"
        )
    names = ", ".join(model.name for model in available if not model.problem) or "none yet"
    raise ModelNotFoundError(f"there is no model {name} in {shown(roots)}", hint=f"those there are: {names}")


def _inside(place: Path, roots: Sequence[Path]) -> Path:
    if not is_inside(place, roots):
        raise UserInputError(
            f"{place.name} is a symbolic link that leads out of {shown(roots)}",
            hint="give its real place as a path, or add the folder that it leads to: models_dir=[...]",
        )
    return place


def _in_package(model: ModelConfig) -> Path | None:
    """The file inside an installed package, which is found without being imported."""
    if model.package is None:
        return None
    if model.file is None:
        raise UserInputError(f"model.package={model.package} needs model.file, the name of a file in it")
    if not all(part.isidentifier() for part in model.package.split(".")):
        raise UserInputError(f"model.package={model.package!r} is not the name of a package")
    try:
        spec = importlib.util.find_spec(model.package)
    except (ImportError, ValueError):
        spec = None
    for folder in (spec.submodule_search_locations or []) if spec else []:
        root = Path(folder).resolve()
        file = (root / model.file).resolve()
        if not file.is_relative_to(root):
            raise UserInputError(f"model.file={model.file} leads out of the package {model.package}")
        if file.is_file():
            return file
    return None


def _pick_file(folder: Path, model: ModelConfig) -> Path:
    """The one file in `folder` that the glob `model.file` names; the folder itself for a Hugging Face checkpoint."""
    files = gguf_files(folder)
    matches = [f for f in files if f.match(model.file or "*")]
    if len(matches) == 1:
        return matches[0]
    if is_checkpoint(folder, files):
        return folder
    names = ", ".join(f.name for f in matches or files) or "no GGUF file at all"
    raise ModelNotFoundError(
        f"model.file={model.file} matches {len(matches)} files of {model.name}",
        hint=f"the folder has: {names}",
    )


def _tried(model: ModelConfig) -> str:
    tried = []
    if model.path:
        absolute = Path(model.path).expanduser().is_absolute()
        where = "" if absolute else " in the models folder or the current folder"
        tried.append(f"no {model.path}{where}")
    if model.package:
        tried.append(f"no {model.file} in an installed package {model.package}")
    return " and ".join(tried)


def _how_to_get(model: ModelConfig) -> str:
    if model.path in DEMO_FOLDERS:
        return "make it from the demo model: python -m lqmf_runner.models.demo (or: make demo)"
    if model.package:
        return f"install it: {pip_line(model.package.replace('_', '-'))}"
    return "correct the path, or see what there is: lqmf models"
