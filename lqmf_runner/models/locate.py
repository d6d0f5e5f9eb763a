"""Finds the weights a config asks for: a local folder or file, an installed package, the hub; and fits the backend."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

from ..config import BackendConfig, ModelConfig
from ..errors import ModelNotFoundError, UserInputError
from ..formats import AUTO, get_format, is_remote
from ..types import ModelSpec
from .demo_family import DEMO_FOLDERS
from .discover import discover
from .found import FoundModel
from .inspect import gguf_files, inspect_model, is_checkpoint


def locate(
    model: ModelConfig, backend: BackendConfig, models_dir: str | Path, *, download: bool = True
) -> ModelSpec:
    """Where the model is, what it is, and the settings of the backend that fits it.

    The first place that exists wins: `path`, the installed package, the hub's cache, the hub. A model with none of
    these is looked up by its name in `models_dir`.

    Args:
        download: whether the hub itself may be asked.

    Raises:
        ModelNotFoundError: no such model, or its weights are missing and the hub cannot be reached.
        ModelUnusableError: its files are damaged, of an unknown format, or refused as unsafe.
        UserInputError: the name is not one, or the backend's format is another than the files'.
    """
    if is_remote(backend.format):
        return ModelSpec(name=model.name, format=backend.format, path="", options=dataclasses.asdict(backend))
    trusted = getattr(backend, "trust_remote_code", False)
    found = find(model, models_dir, trust_remote_code=trusted, download=download)
    fitted = fit_backend(backend, found, model.name)
    return ModelSpec(
        name=model.name,
        format=fitted.format,
        path=found.path,
        version=found.version,
        options=dataclasses.asdict(fitted),
    )


def find(
    model: ModelConfig, models_dir: str | Path, *, trust_remote_code: bool = False, download: bool = True
) -> FoundModel:
    """Locate and inspect the files of a model; see `locate`."""
    root = Path(models_dir)
    path = _find_path(model, root)
    if path is not None and path.is_dir() and model.file:
        path = _pick_file(path, model)
    if path is None:
        from .hub import fetch

        path = fetch(model, download=download)
    return inspect_model(path.absolute(), trust_remote_code=trust_remote_code)


def fit_backend(backend: BackendConfig, found: FoundModel, name: str) -> BackendConfig:
    """The backend's settings as those of the format that the files have.

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


def _find_path(model: ModelConfig, root: Path) -> Path | None:
    """The model's place on this machine, without asking the hub; None when the hub is to be asked."""
    if model.path is None and model.package is None and model.hub_id is None:
        return _by_name(model.name, root)
    if model.path is not None:
        if not model.path or "\0" in model.path:
            raise UserInputError(f"model.path={model.path!r} is not a path")
        typed = Path(model.path).expanduser()
        for place in (root / typed, typed):  # the second as a shell completes it, from the current folder
            if place.exists():
                return place
    packaged = _in_package(model)
    if packaged is not None:
        return packaged
    if model.hub_id is not None:
        return None
    raise ModelNotFoundError(
        f"the weights of {model.name} are missing: {_tried(model)}", hint=_how_to_get(model)
    )


def _by_name(name: str, root: Path) -> Path:
    if not name or name.startswith(".") or any(c in name for c in "/\\\0"):
        raise UserInputError(
            f"model.name={name!r} is not the name of a model",
            hint="a name has no slashes; for a path set model.path",
        )
    for place in (root / name, root / f"{name}.gguf", root / f"{name}.GGUF"):
        if place.is_file() or (place.is_dir() and ((place / "config.json").exists() or gguf_files(place))):
            return _inside(place, root)
    available = discover(root)
    for found in available:
        if found.name == name:
            return _inside(Path(found.path), root)
    if inner := [found.name for found in available if found.name.startswith(f"{name}--")]:
        raise ModelNotFoundError(
            f"{name} holds {len(inner)} models", hint=f"name one: model.name={' or model.name='.join(inner)}"
        )
    names = ", ".join(model.name for model in available if not model.problem) or "none yet"
    raise ModelNotFoundError(f"there is no model {name} in {root.name}", hint=f"those there are: {names}")


def _inside(place: Path, root: Path) -> Path:
    if not place.resolve().is_relative_to(root.resolve()):
        raise UserInputError(
            f"{place.name} is a symbolic link that leads out of {root.name}",
            hint="set model.path to its real place",
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
    tried = [f"no {model.path} in the models folder"] if model.path else []
    if model.package:
        tried.append(f"no {model.file} in an installed package {model.package}")
    return " and ".join(tried)


def _how_to_get(model: ModelConfig) -> str:
    if model.path in DEMO_FOLDERS:
        return "make it from the demo model: python -m lqmf_runner.models.demo (or: make demo)"
    if model.package:
        return f"install it: pip install {model.package.replace('_', '-')}"
    return "put it there, or see what there is: python -m lqmf_runner mode=models"
