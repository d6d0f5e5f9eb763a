"""The GGUF header reader believes nothing."""

from __future__ import annotations

import contextlib
import random
import struct
from pathlib import Path

import pytest

from lqmf_runner.errors import ModelUnusableError
from lqmf_runner.models import inspect_model
from lqmf_runner.models.files.gguf import _BLOCK, read_header


def test_header_agrees_with_the_reference_reader(gguf_file: Path) -> None:
    from gguf import GGUFReader

    ours, theirs = read_header(gguf_file), GGUFReader(gguf_file)
    assert [(t.name, list(t.shape), t.nbytes) for t in ours.tensors] == [
        (t.name, t.shape.tolist(), t.n_bytes) for t in theirs.tensors
    ]
    assert [ours.data_start + t.offset for t in ours.tensors] == [t.data_offset for t in theirs.tensors]
    assert ours.metadata["general.architecture"] == "llama"


def test_inspect_tells_type_size_and_parameters(gguf_file: Path) -> None:
    found = inspect_model(gguf_file)
    assert (found.format, found.method, found.bits, found.bits_per_weight) == ("gguf", "F32", 32.0, 32.0)
    assert found.parameters == sum(t.elements for t in read_header(gguf_file).tensors)
    assert found.weight_bytes == 4 * found.parameters  # tied: the embedding is read as the head
    assert found.context_length == 512


@pytest.mark.parametrize("keep", [0, 3, 4, 7, 12, 23, 24, 40, 500, 4000])
def test_truncated_file_is_refused(gguf_file: Path, tmp_path: Path, keep: int) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(gguf_file.read_bytes()[:keep])
    with pytest.raises(ModelUnusableError, match=r"cut\.gguf: .*(empty|magic|cut short|claims)"):
        inspect_model(cut)


def test_missing_tensor_data_is_refused(gguf_file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(gguf_file.read_bytes()[:-100])
    with pytest.raises(ModelUnusableError, match=r"tensors need .* bytes, the file has"):
        inspect_model(cut)


def header(version: int = 3, tensors: int = 0, entries: int = 0, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries) + rest


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


LIES = {
    "a version from the future": (header(99), "version 99"),
    "more tensors than bytes": (header(tensors=1 << 60), "claims 1152921504606846976 tensors"),
    "more metadata than bytes": (header(entries=1 << 62), "metadata entries"),
    "a key longer than the file": (
        header(entries=1, rest=struct.pack("<Q", 60000) + bytes(50)),
        "60000 bytes",
    ),
    "a key longer than is allowed": (
        header(entries=1, rest=struct.pack("<Q", 1 << 63) + bytes(50)),
        "claims",
    ),
    "a text longer than the file": (
        header(entries=1, rest=text(b"k") + struct.pack("<IQ", 8, 1 << 24)),
        "16777216 bytes",
    ),
    "an unknown value type": (
        header(entries=1, rest=text(b"key") + struct.pack("<I", 77) + bytes(9)),
        "unknown type",
    ),
    "an endless array": (
        header(entries=1, rest=text(b"k") + struct.pack("<IIQ", 9, 4, 1 << 61)),
        "cut short or damaged",
    ),
    "an endless array of strings": (
        header(entries=1, rest=text(b"k") + struct.pack("<IIQ", 9, 8, 1 << 61)),
        "claims 2305843009213693952 strings",
    ),
    "an array in an array": (
        header(entries=1, rest=text(b"k") + struct.pack("<IIQ", 9, 9, 1)),
        "unknown type",
    ),
    "an alignment of three": (
        header(entries=1, rest=text(b"general.alignment") + struct.pack("<II", 4, 3)),
        "alignment",
    ),
    "too many dimensions": (
        header(tensors=1, rest=text(b"t") + struct.pack("<I", 1 << 31) + bytes(40)),
        "dimensions",
    ),
    "a tensor larger than the file": (
        header(tensors=1, rest=text(b"t") + struct.pack("<IQQIQ", 2, 1 << 40, 1 << 40, 0, 0)),
        "cut short",
    ),
    "an offset past the end": (
        header(tensors=1, rest=text(b"t") + struct.pack("<IQQIQ", 2, 1, 1, 0, 1 << 50)),
        "cut short",
    ),
    "a type that nobody knows": (
        header(tensors=1, rest=text(b"t") + struct.pack("<IQQIQ", 2, 1, 1, 200, 0)),
        "type that is not known, 200",
    ),
    "a row that is no whole block": (
        header(tensors=1, rest=text(b"t") + struct.pack("<IQQIQ", 2, 33, 2, 2, 0) + bytes(200)),
        "impossible shape",
    ),
    "no tensors": (header(), "holds no model"),
}


@pytest.mark.parametrize("cut", [0, 1, 9, _BLOCK, 3 * _BLOCK])
def test_texts_of_any_length_are_skipped_and_a_cut_in_them_is_seen(tmp_path: Path, cut: int) -> None:
    lengths = [0, 1, _BLOCK - 8 - 17, 0, 3, 2 * _BLOCK, 0, 5, *[2] * 30_000]
    texts = b"".join(text(bytes(length)) for length in lengths)
    array = text(b"words") + struct.pack("<IIQ", 9, 8, len(lengths)) + texts
    file = tmp_path / "words.gguf"
    behind = text(b"behind") + struct.pack("<II", 4, 7)
    file.write_bytes(header(entries=2, rest=array + (behind if not cut else b""))[: -cut or None])
    if not cut:
        assert read_header(file).metadata == {"words": len(lengths), "behind": 7}
        return
    with pytest.raises(ModelUnusableError, match=r"cut short or damaged|too many for the file|claims"):
        read_header(file)


@pytest.mark.parametrize("lie", LIES)
def test_lying_header_is_refused_with_the_reason(tmp_path: Path, lie: str) -> None:
    data, reason = LIES[lie]
    file = tmp_path / "lie.gguf"
    file.write_bytes(data)
    with pytest.raises(ModelUnusableError, match=reason):
        inspect_model(file)


def test_random_damage_never_crashes_the_reader(gguf_file: Path, tmp_path: Path) -> None:
    whole = gguf_file.read_bytes()
    end = read_header(gguf_file).data_start
    dice = random.Random(7)
    file = tmp_path / "damaged.gguf"
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 6)):
            data[dice.randrange(end)] = dice.randrange(256)
        file.write_bytes(data)
        with contextlib.suppress(ModelUnusableError):  # any other error fails the test
            inspect_model(file)


def test_parts_of_a_split_model_must_be_there(tmp_path: Path) -> None:
    import gguf
    import numpy as np

    first = tmp_path / "m-00001-of-00002.gguf"
    writer = gguf.GGUFWriter(first, "llama")
    writer.add_uint16("split.count", 2)
    writer.add_tensor("token_embd.weight", np.zeros((32, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(
        ModelUnusableError, match=r"1 of its 2 parts are missing, m-00002-of-00002\.gguf first"
    ):
        inspect_model(first)
    second = tmp_path / "m-00002-of-00002.gguf"
    second.write_bytes(first.read_bytes())
    assert inspect_model(first).parameters == 2 * 32 * 32
