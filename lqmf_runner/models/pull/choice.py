"""Which files of a repository make one model, and which are not fetched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from ...errors import ModelUnusableError, UserInputError
from ...formats import get_format
from ..hub import CHECKPOINT_FILES
from .repository import HubFile, Repository

PICKLES = (".bin", ".pt", ".pth")
_PART = re.compile(r"-(\d{5})-of-\d{5}(?=\.gguf\Z)", re.IGNORECASE)
_BESIDE = re.compile(r"mmproj|imatrix", re.IGNORECASE)
_USUAL_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
_TEMPLATES = "additional_chat_templates/*.jinja"
_NEVER = "training_args.bin"


@dataclass(frozen=True)
class Variant:
    """A GGUF model of a repository: one file, or the parts of a split one in order."""

    files: tuple[HubFile, ...]

    @property
    def path(self) -> str:
        """The (first) file's."""
        return self.files[0].path

    @property
    def size(self) -> int:
        """Bytes of all its parts."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Choice:
    """The files to fetch.

    Attributes:
        format: "gguf" or "transformers", by what they are called.
    """

    format: str
    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def single_file(self) -> bool:
        """Whether the model is one file, or the parts of one, and not a folder."""
        return get_format(self.format).single_file

    def place(self, file: HubFile) -> str:
        """The path of a file in the model's folder: GGUF files without subfolders, others unchanged."""
        return file.name if self.single_file else file.path


class SeveralModelsError(UserInputError):
    """The repository holds several GGUF models, and none was chosen."""

    def __init__(self, repository: Repository, variants: Sequence[Variant], pattern: str | None) -> None:
        which = f" that match '{pattern}'" if pattern else ""
        listed = ", ".join(f"{variant.path} ({size_text(variant.size)})" for variant in variants)
        super().__init__(
            f"{repository.hub_id} has {len(variants)} GGUF models{which}",
            hint=f"name one, e.g. lqmf pull {repository.hub_id} --file {variants[0].path}; there are: {listed}",
        )
        self.variants = variants


def choose(repository: Repository, pattern: str | None = None, *, pickles: bool = False) -> Choice:
    """The files of the one model that is meant.

    Args:
        pattern: a glob over the paths of GGUF files, in any case; the name of a file counts without its folders too.
        pickles: take weights in pickles where there are no others.

    Raises:
        SeveralModelsError: it holds several GGUF models, and the pattern does not choose one.
        ModelUnusableError: it holds no model that can run here.
        UserInputError: no file matches the pattern.
    """
    found = variants_of(repository.files)
    if pattern is not None:
        matching = [variant for variant in found if _matches(variant, pattern)]
        if not matching:
            listed = ", ".join(variant.path for variant in found) or "no GGUF file at all"
            raise UserInputError(
                f"no GGUF file of {repository.hub_id} matches '{pattern}'", hint=f"there are: {listed}"
            )
        return _one(repository, matching, pattern)
    names = {file.path for file in repository.files}
    if "config.json" in names and any(_is_weights(file, (".safetensors",)) for file in repository.files):
        return Choice("transformers", _checkpoint(repository.files, (".safetensors",)))
    if found:
        return _one(repository, found, None)
    if "config.json" in names and any(_is_weights(file, PICKLES) for file in repository.files):
        if pickles:
            return Choice("transformers", _checkpoint(repository.files, PICKLES))
        raise ModelUnusableError(
            f"{repository.hub_id} has only pickled weights (.bin), which can run code when they are loaded",
            hint="look for one with safetensors or GGUF; mode.pickles=true fetches them, to convert them elsewhere",
        )
    raise ModelUnusableError(f"{repository.hub_id} {_what_else(names)}", hint="give the id of a whole model")


def variants_of(files: Sequence[HubFile]) -> list[Variant]:
    """The GGUF models among the files; projectors and importance matrices are none."""
    groups: dict[str, list[HubFile]] = {}
    for file in sorted(files, key=lambda file: file.path):
        if file.path.lower().endswith(".gguf") and not _BESIDE.search(file.name):
            groups.setdefault(_PART.sub("", file.path), []).append(file)
    return [Variant(tuple(group)) for group in groups.values()]


def size_text(size: float) -> str:
    """Bytes for people."""
    return f"{size / 1e9:.2f} GB" if size >= 999.5e6 else f"{size / 1e6:.3g} MB"


def _one(repository: Repository, variants: Sequence[Variant], pattern: str | None) -> Choice:
    if len(variants) > 1:
        raise SeveralModelsError(repository, variants, pattern)
    return Choice("gguf", variants[0].files)


def _matches(variant: Variant, pattern: str) -> bool:
    wanted = pattern.lower()
    return any(fnmatchcase(name.lower(), wanted) for name in (variant.path, variant.files[0].name))


def _checkpoint(files: Sequence[HubFile], suffixes: Sequence[str]) -> tuple[HubFile, ...]:
    """The weights with these suffixes, and what describes them; of weights in several forms the usual ones."""
    weights = [file for file in files if _is_weights(file, suffixes)]
    usual = [file for file in weights if _USUAL_WEIGHTS.fullmatch(file.path)]
    beside = [
        file
        for file in files
        if ("/" not in file.path and not file.path.endswith(".safetensors")
            and any(fnmatchcase(file.path, pattern) for pattern in CHECKPOINT_FILES))
        or fnmatchcase(file.path, _TEMPLATES)
    ]  # fmt: skip
    return (*beside, *(usual or weights))


def _is_weights(file: HubFile, suffixes: Sequence[str]) -> bool:
    return file.path.endswith(tuple(suffixes)) and "/" not in file.path and file.path != _NEVER


def _what_else(names: set[str]) -> str:
    if "adapter_config.json" in names:
        return "is an adapter (LoRA), not a whole model"
    if any(PurePosixPath(name).suffix == ".safetensors" for name in names):
        return "has weights but no config.json beside them"
    return "has no weights that can run here: neither safetensors nor GGUF"
