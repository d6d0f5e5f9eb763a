"""Reads the header of a GGUF file without trusting any number in it.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every count and length is checked against the
bytes that are left in the file before it is used, so a truncated, empty or lying file costs little and ends in a
`ModelUnusableError` that says what is wrong.
"""

from __future__ import annotations

import functools
import os
import stat
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import ModelUnusableError
from .stand_ins import HEAD_BYTES, what_instead

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_NAME = 65535  # the specification's limit for keys
MAX_TEXT = 64 << 20
MAX_DIMENSIONS = 4
DEFAULT_ALIGNMENT = 32

# Tensor type → name, weights in a block, bytes of a block (ggml.h).
TENSOR_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
    42: ("Q2_0", 64, 18),
}

# `general.file_type` → the name people use (llama.h, llama_ftype).
FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS",
    20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M",
    28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
    39: "NVFP4", 40: "Q1_0", 41: "Q2_0",
}  # fmt: skip

_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING = 8
_ARRAY = 9


@dataclass(frozen=True)
class GgufTensor:
    """One row of the tensor table; `shape` is in ggml's order, fastest dimension first."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    nbytes: int

    @property
    def elements(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says about itself. Arrays appear in `metadata` as their length only."""

    version: int
    metadata: dict[str, Any]
    tensors: tuple[GgufTensor, ...]
    data_start: int
    size: int


_BLOCK = 1 << 18
_LENGTH = struct.Struct("<Q").unpack_from


class _Reader:
    """Reads bytes from a file and refuses to read more than there are."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream = stream
        self.size = size
        self.position = 0

    @property
    def left(self) -> int:
        return self.size - self.position

    def take(self, count: int, what: str) -> bytes:
        self._need(count, what)
        data = self.stream.read(count)
        if len(data) != count:  # the file shrank while it was read
            raise ModelUnusableError(f"the GGUF file ends inside {what}")
        self.position += count
        return data

    def skip(self, count: int, what: str) -> None:
        self._need(count, what)
        self.stream.seek(count, os.SEEK_CUR)
        self.position += count

    def number(self, code: str, what: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code), what))[0]

    def text(self, what: str, limit: int = MAX_TEXT) -> str:
        length = self._length(what, limit)
        return self.take(length, what).decode("utf-8", errors="replace")

    def skip_texts(self, count: int, what: str) -> None:
        """Skip so many texts. They are read in blocks: a vocabulary and its merges are half a million of them."""
        block, start, end = b"", self.position, self.position
        for _ in range(count):
            if end + 8 > start + len(block):
                self.skip(end - self.position, what)
                block, start = self._ahead(), end
                self._need(8, what)
                if len(block) < 8:  # the file shrank while it was read
                    raise ModelUnusableError(f"the GGUF file ends inside {what}")
            length = _LENGTH(block, end - start)[0]
            if length > MAX_TEXT:
                self._check_length(length, what, MAX_TEXT)
            end += 8 + length
        self.skip(end - self.position, what)

    def _ahead(self) -> bytes:
        """The next bytes, which are not taken yet."""
        block = self.stream.read(min(_BLOCK, self.left))
        self.stream.seek(-len(block), os.SEEK_CUR)
        return block

    def _length(self, what: str, limit: int) -> int:
        length: int = self.number("<Q", what)
        self._check_length(length, what, limit)
        return length

    def _check_length(self, length: int, what: str, limit: int) -> None:
        if length > limit:
            raise ModelUnusableError(
                f"the GGUF header claims {length} bytes for {what}, more than is possible"
            )

    def _need(self, count: int, what: str) -> None:
        if count > self.left:
            raise ModelUnusableError(
                f"the GGUF file is cut short or damaged: {what} needs {count} bytes, {self.left} are left"
            )


def read_header(path: Path) -> GgufHeader:
    """Parse and check the header, and check that the file has all of its tensor data.

    Raises:
        ModelUnusableError: the file is no GGUF, is cut short, or contradicts itself.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelUnusableError(f"{path.name} is not a regular file")
        return _known_header(path, status.st_ino, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise ModelUnusableError(f"{path.name} cannot be read: {error.strerror}") from error


@functools.lru_cache(maxsize=256)
def _known_header(path: Path, inode: int, changed_ns: int, size: int) -> GgufHeader:
    """A large vocabulary takes a tenth of a second, and a server that is asked for its models reads them again."""
    with open(path, "rb", opener=_open_without_blocking) as stream:
        return _read_header(_Reader(stream, os.fstat(stream.fileno()).st_size))


def _open_without_blocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a FIFO must not block


def _read_header(reader: _Reader) -> GgufHeader:
    if reader.size == 0:
        raise ModelUnusableError("the file is empty")
    magic = reader.take(4, "the magic number") if reader.size >= 4 else b""
    if magic != MAGIC:
        if instead := what_instead(magic + reader.take(min(HEAD_BYTES, reader.left), "the first bytes")):
            raise ModelUnusableError(f"not a GGUF file but {instead}")
        raise ModelUnusableError("not a GGUF file: the magic number is missing")
    version = reader.number("<I", "the version")
    if version not in VERSIONS:
        known = " and ".join(map(str, VERSIONS))
        raise ModelUnusableError(f"GGUF version {version} is not supported, only {known} (little-endian)")
    tensor_count = reader.number("<Q", "the tensor count")
    metadata_count = reader.number("<Q", "the metadata count")
    # An entry of the tensor table takes at least 32 bytes, one of the metadata at least 13.
    if tensor_count * 32 + metadata_count * 13 > reader.left:
        raise ModelUnusableError(
            f"the GGUF header claims {tensor_count} tensors and {metadata_count} metadata entries, "
            f"the file has {reader.left} bytes left for them"
        )
    metadata = dict(_read_entry(reader) for _ in range(metadata_count))
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment > 1 << 20 or alignment & (alignment - 1):
        raise ModelUnusableError(f"the GGUF header has an impossible alignment, {alignment}")
    tensors = tuple(_read_tensor(reader, alignment) for _ in range(tensor_count))
    data_start = -(-reader.position // alignment) * alignment
    _check_extents(tensors, data_start, reader.size)
    return GgufHeader(version, metadata, tensors, data_start, reader.size)


def _read_entry(reader: _Reader) -> tuple[str, Any]:
    key = reader.text("a metadata key", MAX_NAME)
    kind = reader.number("<I", f"the type of {key!r}")
    return key, _read_value(reader, kind, repr(key))


def _read_value(reader: _Reader, kind: int, what: str) -> Any:
    if kind == _STRING:
        return reader.text(what)
    if kind != _ARRAY:
        return reader.number(_scalar_code(kind, what), what)
    element = reader.number("<I", what)
    count: int = reader.number("<Q", what)
    if element == _STRING:
        if count * 8 > reader.left:
            raise ModelUnusableError(
                f"the GGUF header claims {count} strings in {what}, too many for the file"
            )
        reader.skip_texts(count, what)
    else:
        reader.skip(count * struct.calcsize(_scalar_code(element, what)), what)
    return count


def _scalar_code(kind: int, what: str) -> str:
    if kind not in _SCALARS:
        raise ModelUnusableError(f"the GGUF header gives {what} an unknown type, {kind}")
    return _SCALARS[kind]


def _read_tensor(reader: _Reader, alignment: int) -> GgufTensor:
    name = reader.text("a tensor's name", MAX_NAME)
    dimensions = reader.number("<I", f"the shape of {name!r}")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise ModelUnusableError(f"the GGUF tensor {name!r} claims {dimensions} dimensions")
    shape = struct.unpack(f"<{dimensions}Q", reader.take(8 * dimensions, f"the shape of {name!r}"))
    kind = reader.number("<I", f"the type of {name!r}")
    offset = reader.number("<Q", f"the place of {name!r}")
    if kind not in TENSOR_TYPES:
        raise ModelUnusableError(f"the GGUF tensor {name!r} has a type that is not known, {kind}")
    type_name, block, block_bytes = TENSOR_TYPES[kind]
    elements = prod(shape)
    if elements == 0 or shape[0] % block or offset % alignment:
        raise ModelUnusableError(f"the GGUF tensor {name!r} has an impossible shape or place")
    return GgufTensor(name, shape, type_name, offset, elements // block * block_bytes)


def _check_extents(tensors: tuple[GgufTensor, ...], data_start: int, size: int) -> None:
    end = max((data_start + t.offset + t.nbytes for t in tensors), default=0)
    if end > size:
        raise ModelUnusableError(
            f"the GGUF file is cut short: its tensors need {end:,} bytes, the file has {size:,}"
        )


def split_parts(path: Path, header: GgufHeader) -> list[Path]:
    """The files of a model that was split over several, `path` being the first.

    Raises:
        ModelUnusableError: parts are missing, or `path` is not the first.
    """
    count = header.metadata.get("split.count", 1)
    if not isinstance(count, int) or not 1 < count < 10000:
        return [path]
    stem = path.stem.rpartition("-00001-of-")[0]
    if not stem:
        raise ModelUnusableError(f"it is one of {count} parts, and not the first")
    parts = [path.with_name(f"{stem}-{i + 1:05d}-of-{count:05d}{path.suffix}") for i in range(count)]
    missing = [p.name for p in parts if not p.is_file()]
    if missing:
        raise ModelUnusableError(f"{len(missing)} of its {count} parts are missing, {missing[0]} first")
    return parts
