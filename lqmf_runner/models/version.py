"""The content version of a model: a short digest that is cheap to take even of very large files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import ModelUnusableError
from .files.checkpoint import OLD_SETTINGS, PICKLE_SUFFIXES
from .files.gguf import read_header, split_parts
from .files.safetensors import read_tensors, weight_files

SAMPLES = 16
SAMPLE_BYTES = 16384
VERSION_LENGTH = 12
# The files that determine a folder's tokenizer and chat template. A GGUF has both in its header.
_TOKENIZER_FILES = (
    "tokenizer*",
    "*token*.json",
    "vocab*",
    "merges*",
    "*.model",
    "*.tiktoken",
    "chat_template*",
)


def content_version(path: str | Path) -> str:
    """Hex digest over configuration, tokenizer, chat template, weight headers and evenly spread samples of the weights.

    It changes with the quantization, the tensor table, the files' sizes or any sampled slice. It is no proof
    against somebody who alters a single byte on purpose.

    Raises:
        ModelUnusableError: the files are damaged.
    """
    place = Path(path)
    digest = hashlib.sha256()
    try:
        if place.is_dir():
            for name in _described_in(place):
                if (place / name).is_file():
                    digest.update(name.encode() + b"\0" + (place / name).read_bytes())
            digest.update(tokenizer_version(place).encode())
            files = weight_files(place)
            for file in files:
                _add_file(digest, file, _safetensors_header(file))
            # vLLM and SGLang load these if a checkpoint has no others.
            for file in [] if files else _pickles_in(place):
                digest.update(file.name.encode())
                _add_file(digest, file, 0)
        else:
            for file in split_parts(place, read_header(place)):
                _add_file(digest, file, read_header(file).data_start)
    except OSError as error:
        raise ModelUnusableError(f"{place.name}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()[:VERSION_LENGTH]


def tokenizer_version(path: str | Path) -> str:
    """Hex digest over a folder's tokenizer and chat template; empty for a GGUF, whose version has them.

    Raises:
        ModelUnusableError: a file cannot be read.
    """
    place = Path(path)
    if not place.is_dir():
        return ""
    digest = hashlib.sha256()
    files = {file for pattern in _TOKENIZER_FILES for file in place.glob(pattern) if file.is_file()}
    try:
        for file in sorted(files):
            content = file.read_bytes()
            digest.update(f"{file.name}\0{len(content)}\0".encode() + content)
    except OSError as error:
        raise ModelUnusableError(f"{place.name}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()[:VERSION_LENGTH]


def _described_in(folder: Path) -> list[str]:
    """The files beside the weights that determine their meaning."""
    config = folder / "config.json"
    own = config.is_file() and b'"quantization_config"' in config.read_bytes()
    return ["config.json", *([] if own else [OLD_SETTINGS]), "model.safetensors.index.json"]


def _pickles_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in PICKLE_SUFFIXES and file.is_file())


def _safetensors_header(path: Path) -> int:
    read_tensors(path)  # refuses a file whose header has a wrong length
    with path.open("rb") as stream:
        return 8 + int.from_bytes(stream.read(8), "little")


def _add_file(digest: hashlib._Hash, path: Path, header_bytes: int) -> None:
    size = path.stat().st_size
    digest.update(f"\0{size}\0".encode())
    with path.open("rb") as stream:
        digest.update(stream.read(header_bytes))
        for i in range(SAMPLES):
            stream.seek(header_bytes + max(0, size - header_bytes - SAMPLE_BYTES) * i // (SAMPLES - 1))
            digest.update(stream.read(SAMPLE_BYTES))
