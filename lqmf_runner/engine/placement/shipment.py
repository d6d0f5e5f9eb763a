"""`Shipment`: the files of a model that a node needs, and how it recognises them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from ...errors import ModelNotFoundError
from ...models.files.gguf import read_header, split_parts
from ...models.files.safetensors import weight_files
from ...models.version import content_version

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")


class ModelFile(msgspec.Struct, frozen=True):
    """A file beside others. `digest` is its SHA-256 in hex; empty for weights that the model's version covers."""

    name: str
    size: int
    digest: str = ""


class Shipment(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one model.

    Attributes:
        version: the content version of the model.
        main: the file that the model's path names; empty if that is the folder.
    """

    model: str
    version: str
    main: str
    files: tuple[ModelFile, ...]

    @property
    def key(self) -> str:
        """The name of these contents: the same for the same files, and another one for all others."""
        listed = msgspec.json.encode((self.main, self.files))
        return f"{self.version}-{hashlib.sha256(listed).hexdigest()[:16]}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def shipment_of(model: str, path: str) -> Shipment:
    """The files that a model at this path is loaded from. It reads the small ones, and weights that no version covers.

    Of a folder these are the weights that its index names, and the other files on its first level. Weights in other
    forms stay here, unless there are no others.

    Raises:
        ModelNotFoundError: there is nothing.
        ModelUnusableError: the files are damaged.
    """
    place = Path(path)
    if not place.exists():
        raise ModelNotFoundError(f"the files of '{model}' are not here any more", hint="put them back")
    if place.is_file():
        covered, others = split_parts(place, read_header(place)), []
    else:
        present = [f for f in sorted(place.iterdir()) if f.is_file() and not f.name.startswith(".")]
        covered = weight_files(place)
        others = [f for f in present if f.suffix not in _WEIGHTS or not covered]
    files = [ModelFile(f.name, f.stat().st_size, digest_of(f)) for f in others]
    return Shipment(
        model=model,
        version=content_version(path),
        main=place.name if place.is_file() else "",
        files=(*files, *(ModelFile(f.name, f.stat().st_size) for f in covered)),
    )


def digest_of(file: Path) -> str:
    """The SHA-256 of a file in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
