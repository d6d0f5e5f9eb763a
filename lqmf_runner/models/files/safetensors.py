"""Reads the headers of safetensors files and checks that the files have all of their data."""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import msgspec

from ...errors import ModelUnusableError
from .stand_ins import HEAD_BYTES, file_instead, what_instead

MAX_HEADER = 100_000_000  # the limit of the safetensors library
MAX_JSON = 32_000_000
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
OLD_GPTQ = ("gptq_model*.safetensors.index.json", "gptq_model*.safetensors")
"""Names that auto-gptq gave to its weights."""

# Bits of one element; sub-byte types as in safetensors 0.8.
DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4,
    "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a file."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int

    @property
    def elements(self) -> int:
        return prod(self.shape)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of sane size.

    Raises:
        ModelUnusableError: it cannot be read or is no JSON object.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelUnusableError(f"{path.name} is not a regular file")
        if status.st_size > MAX_JSON:
            raise ModelUnusableError(
                f"{path.name} is {status.st_size / 1e6:.0f} MB, too large to be what it says"
            )
        value = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise ModelUnusableError(f"{path.name} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        instead = file_instead(path)
        what = f"is {instead}" if instead else f"is damaged: {error}"
        raise ModelUnusableError(f"{path.name} {what}") from error
    if not isinstance(value, dict):
        raise ModelUnusableError(f"{path.name} is damaged: it holds no JSON object")
    return value


def entry_file(folder: Path) -> Path | None:
    """The file that loading starts from, the only one or the index of the shards; None if there are no weights.

    Raises:
        ModelUnusableError: there are weights, but under no name that a checkpoint has.
    """
    for name in (INDEX, SINGLE):
        if (folder / name).is_file():
            return folder / name
    for pattern in OLD_GPTQ:
        if len(found := list(folder.glob(pattern))) == 1:
            return found[0]
    if others := sorted(p.name for p in folder.glob("*.safetensors")):
        raise ModelUnusableError(f"it has {others[0]} but neither {SINGLE} nor {INDEX}")
    return None


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that make up the checkpoint in `folder`, in order.

    Raises:
        ModelUnusableError: a shard that the index names is missing, or there is no complete checkpoint.
    """
    index = entry_file(folder)
    if index is None or index.suffix != ".json":
        return [] if index is None else [index]
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelUnusableError(f"{index.name} is damaged: it has no weight_map")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if name != os.path.basename(name) or name in (".", "..") or "\0" in name:
            raise ModelUnusableError(f"{index.name} names a file outside of its folder")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ModelUnusableError(
            f"{len(missing)} of {len(names)} weight files are missing, {missing[0]} first"
        )
    return [folder / name for name in names]


def read_tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensor table of one safetensors file.

    Raises:
        ModelUnusableError: the file is cut short, damaged, or contradicts itself.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            first = stream.read(8)
            if len(first) < 8:
                raise ModelUnusableError(
                    f"{path.name} is empty" if not first else f"{path.name} is cut short"
                )
            if instead := what_instead(first + stream.read(HEAD_BYTES)):
                raise ModelUnusableError(f"{path.name} is {instead}")
            stream.seek(len(first))
            (length,) = struct.unpack("<Q", first)
            if length > MAX_HEADER or length > size - 8:
                raise ModelUnusableError(
                    f"{path.name} is cut short or damaged: its header needs {length} bytes, {size - 8} are there"
                )
            header = msgspec.json.decode(stream.read(length))
    except OSError as error:
        raise ModelUnusableError(f"{path.name} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelUnusableError(f"{path.name} has a damaged header: {error}") from error
    if not isinstance(header, dict):
        raise ModelUnusableError(f"{path.name} has a damaged header")
    header.pop("__metadata__", None)
    return _check_table(path.name, header, size - 8 - length)


def _check_table(file: str, header: dict[str, Any], data_bytes: int) -> dict[str, StoredTensor]:
    tensors = {}
    extents = []
    for name, entry in header.items():
        try:
            dtype, shape = entry["dtype"], tuple(entry["shape"])
            begin, end = entry["data_offsets"]
            if not all(isinstance(n, int) and n >= 0 for n in (*shape, begin, end)):
                raise ValueError
            bits = DTYPE_BITS[dtype] * prod(shape)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelUnusableError(
                f"{file} has a damaged header: tensor {name!r} makes no sense"
            ) from error
        if bits % 8 or end - begin != bits // 8:
            raise ModelUnusableError(
                f"{file} contradicts itself: tensor {name!r} has not the size of its shape"
            )
        tensors[name] = StoredTensor(dtype, shape, end - begin)
        extents.append((begin, end))
    position = 0
    for begin, end in sorted(extents):
        if begin != position:
            raise ModelUnusableError(f"{file} is damaged: its tensors overlap or leave holes")
        position = end
    if position > data_bytes:
        raise ModelUnusableError(
            f"{file} is cut short: its tensors need {position:,} bytes, {data_bytes:,} are there"
        )
    return tensors


def read_bytes(path: Path, name: str) -> bytes:
    """The stored bytes of one tensor of a file that `read_tensors` has accepted."""
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        begin, end = msgspec.json.decode(stream.read(length))[name]["data_offsets"]
        stream.seek(8 + length + begin)
        return stream.read(end - begin)
