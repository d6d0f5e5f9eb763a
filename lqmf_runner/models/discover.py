"""Lists the models in the models folders, by content, with the reason if one cannot be used."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import msgspec

from ..errors import ModelUnusableError
from ..types import ModelSpec
from .files.safetensors import weight_files
from .found import FoundModel
from .inspect import gguf_files, inspect_model, is_checkpoint, is_model_file, side_file
from .roots import Folders, is_inside, roots_of

_DEEPEST = 4  # folders below a folder of the models folder
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf")


def discover(folders: Folders) -> list[FoundModel]:
    """Every model in the folders, sorted by name. Hidden entries and files that are not weights are ignored.

    Nothing in a folder can make this fail: what cannot be used is listed with its `problem`. Symbolic links that lead
    out of all these folders are not followed. Models in subfolders are found too. Of two models with one name, the one
    in the first folder has it.
    """
    roots = roots_of(folders)
    real = tuple(root.resolve() for root in roots)
    found: dict[str, FoundModel] = {}
    hidden: list[FoundModel] = []
    for root in roots:
        for model in _in_root(root, real):
            first = found.setdefault(model.name, model)
            if first is not model and Path(model.path).resolve() != Path(first.path).resolve():
                taken = f"its name is that of another model, {first.path}, which comes first"
                hidden.append(_broken(model.name, Path(model.path), model.problem or taken))
    return sorted([*found.values(), *hidden], key=lambda model: model.name)


def _in_root(root: Path, roots: Sequence[Path]) -> Iterator[FoundModel]:
    try:
        entries = sorted(root.iterdir())
    except OSError:
        return
    for entry in entries:
        if not entry.name.startswith("."):
            yield from _examine(entry, roots)


def weights_mb(path: str | Path) -> float:
    """Size of the weights at `path`, a file or a folder, in MB of 10^6 bytes; 0 for an empty path."""
    return sum(file.stat().st_size for file in weight_paths(path)) / 1e6


def needed_weights_mb(spec: ModelSpec) -> float:
    """Size of the weights that a worker of the model loads, those of its draft model included, in MB of 10^6 bytes."""
    return weights_mb(spec.path) + weights_mb(spec.options.get("draft_model") or "")


def weight_paths(path: str | Path) -> list[Path]:
    """The files of weights that the model at `path`, a file or a folder, is loaded from; none for an empty path."""
    if not path:
        return []
    place = Path(path)
    if place.is_file():
        # Of a GGUF that is split, all parts are loaded.
        stem, first, rest = place.name.rpartition("-00001-of-")
        return sorted(place.parent.glob(f"{escape(stem)}-?????-of-{escape(rest)}")) if first else [place]
    try:
        files = weight_files(place)  # the folder may also have the same weights in another form
    except ModelUnusableError:
        files = []
    return files or [file for file in place.iterdir() if file.suffix in WEIGHT_SUFFIXES]


def _examine(entry: Path, roots: Sequence[Path]) -> Iterator[FoundModel]:
    name = _printable(entry.name)
    try:
        outside = _link_outside(entry, roots)
        if outside is not None:
            yield _broken(name, entry, _leads_out(outside))
        elif entry.is_dir():
            yield from _examine_folder(entry, name, roots)
        elif _is_model_file(entry) and not side_file(entry):
            yield _inspected(entry, _printable(entry.stem) if entry.suffix.lower() == ".gguf" else name)
    except Exception as error:  # a listing must survive any content of the folder
        yield _broken(name, entry, f"cannot be examined: {type(error).__name__}: {error}")


def _examine_folder(folder: Path, name: str, roots: Sequence[Path]) -> Iterator[FoundModel]:
    """The models in a folder and its subfolders. A single one has the folder's name, several are `name--rest`."""
    places = _places(folder, roots)
    for place in places:
        own = name if len(places) == 1 else "--".join((name, *map(_printable, place.names)))
        if place.outside:
            yield _broken(own, place.path, _leads_out(place.outside))
        else:
            yield _inspected(place.path, own)
    if not places:
        yield _inspected(folder, name)


@dataclass(frozen=True)
class _Place:
    """A model below a folder: the names that lead to it, and a link in it that leads out of the models folder."""

    names: tuple[str, ...]
    path: Path
    outside: str = ""


def _places(folder: Path, roots: Sequence[Path], depth: int = 0) -> list[_Place]:
    """The models in and below a folder, in the layouts of the hub's tools, its cache and LM Studio."""
    files = gguf_files(folder)
    found = [_Place((file.stem,), file) for file in files]
    if is_checkpoint(folder, files):
        return [_Place((), folder), *found]
    for inner in _subfolders(folder) if depth < _DEEPEST else ():
        if outside := _link_outside(inner, roots):
            found.append(_Place((inner.name,), inner, outside))
            continue
        below = _places(inner, roots, depth + 1)
        found += [
            _Place((inner.name, *(p.names if len(below) > 1 else ())), p.path, p.outside) for p in below
        ]
    # A folder without weights may be a checkpoint that cannot be used; the listing gives the reason.
    return found


def _subfolders(folder: Path) -> list[Path]:
    """Those that may hold models. Of a hub cache's folder that is the snapshot of the branch, or all of them."""
    snapshots = folder / "snapshots"
    if snapshots.is_dir() and (folder / "blobs").is_dir():
        branch = folder / "refs" / "main"
        current = snapshots / branch.read_text().strip() if branch.is_file() else snapshots
        return [current] if current != snapshots and current.is_dir() else sorted(snapshots.iterdir())
    return sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.is_dir())


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


def _leads_out(link: str) -> str:
    return f"{link} is a symbolic link that leads out of the models folder; add the place it leads to to models_dir"


def _link_outside(entry: Path, roots: Sequence[Path]) -> str | None:
    """The first symbolic link, the entry itself or a file in it, that leads out of the folders of models."""
    inside = entry.iterdir() if entry.is_dir() and not entry.is_symlink() else ()
    for path in (entry, *inside):
        if path.is_symlink() and not is_inside(path, roots):
            return _printable(path.name)
    return None


def _printable(text: str) -> str:
    text = (
        os.fsencode(text).decode(errors="replace") if any("\ud800" <= c <= "\udfff" for c in text) else text
    )
    return "".join(c if c.isprintable() else "?" for c in text)
