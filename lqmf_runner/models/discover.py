"""Lists the models in a folder, by content, the broken ones with the reason."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..errors import ModelUnusableError
from .found import FoundModel
from .inspect import gguf_files, inspect_model, is_model_file

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf")


def discover(models_dir: str | Path) -> list[FoundModel]:
    """Every model in `models_dir`, sorted by name. Hidden entries and files that are no weights are passed over.

    Nothing in the folder can make this fail: what cannot be used is listed with its `problem`. Symbolic links that
    lead out of `models_dir` are not followed.
    """
    root = Path(models_dir)
    try:
        entries = sorted(root.iterdir())
    except OSError:
        return []
    found: list[FoundModel] = []
    for entry in entries:
        if not entry.name.startswith("."):
            found.extend(_examine(entry, root.resolve()))
    return sorted(found, key=lambda model: model.name)


def _examine(entry: Path, root: Path) -> Iterator[FoundModel]:
    name = _printable(entry.name)
    try:
        outside = _link_outside(entry, root)
        if outside is not None:
            yield _broken(name, entry, f"{outside} is a symbolic link that leads out of the models folder")
        elif entry.is_dir():
            yield from _examine_folder(entry, name)
        elif _is_model_file(entry):
            yield _inspected(entry, _printable(entry.stem) if entry.suffix == ".gguf" else name)
    except Exception as error:  # a listing must survive whatever lies in the folder
        yield _broken(name, entry, f"cannot be examined: {type(error).__name__}: {error}")


def _examine_folder(folder: Path, name: str) -> Iterator[FoundModel]:
    files = gguf_files(folder)
    if len(files) > 1 and not (folder / "config.json").exists():
        for file in files:
            yield _inspected(file, f"{name}--{_printable(file.stem)}")
    else:
        yield _inspected(folder, name)


def _inspected(path: Path, name: str) -> FoundModel:
    try:
        found = inspect_model(path)
    except ModelUnusableError as error:
        return _broken(name, path, error.message.removeprefix(f"{path.name}: "))
    return msgspec.structs.replace(found, name=name)


def _broken(name: str, path: Path, problem: str) -> FoundModel:
    return FoundModel(name=name, path=os.fsencode(path).decode(errors="replace"), problem=_printable(problem))


def _is_model_file(path: Path) -> bool:
    if not stat.S_ISREG(path.stat().st_mode):
        return False
    return path.suffix in WEIGHT_SUFFIXES or is_model_file(path)


def _link_outside(entry: Path, root: Path) -> str | None:
    """The first symbolic link, the entry itself or a file in it, that leads out of `root`."""
    inside = entry.iterdir() if entry.is_dir() and not entry.is_symlink() else ()
    for path in (entry, *inside):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            return _printable(path.name)
    return None


def _printable(text: str) -> str:
    text = (
        os.fsencode(text).decode(errors="replace") if any("\ud800" <= c <= "\udfff" for c in text) else text
    )
    return "".join(c if c.isprintable() else "?" for c in text)
