"""Hugging Face folders are recognised by content, and refused with the reason when they cannot be used."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lqmf_runner.errors import ModelUnusableError
from lqmf_runner.models import content_version, inspect_model

from ...support.models.tiny import make_checkpoint


def folder_of(root: Path, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> Path:
    root.mkdir()
    (root / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], **config}))
    save_file(tensors, root / "model.safetensors")
    (root / "tokenizer.json").write_text("{}")
    return root


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "model"))


def test_unquantized_checkpoint(checkpoint: Path) -> None:
    found = inspect_model(checkpoint)
    assert (found.format, found.method, found.bits, found.bits_per_weight) == (
        "transformers",
        "bfloat16",
        16,
        16,
    )
    assert found.architecture == "LlamaForCausalLM"
    assert found.weight_bytes == 2 * found.parameters
    assert found.context_length == 512


def test_untied_embedding_is_not_read_for_a_token(tmp_path: Path) -> None:
    found = inspect_model(make_checkpoint(tmp_path / "untied", tied=False))
    config = json.loads((tmp_path / "untied" / "config.json").read_text())
    assert found.weight_bytes == 2 * (found.parameters - config["vocab_size"] * config["hidden_size"])


def test_bnb_counts_the_packed_weights(tmp_path: Path) -> None:
    settings = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    config = {"quantization_config": settings}
    tensors = {
        "model.embed_tokens.weight": np.zeros((10, 64), np.float16),
        "model.q.weight": np.zeros((64 * 64 // 2, 1), np.uint8),
        "model.q.weight.absmax": np.zeros(64, np.float32),
        "model.q.weight.quant_map": np.zeros(16, np.float32),
        "model.q.weight.quant_state.bitsandbytes__nf4": np.zeros(80, np.uint8),
    }
    found = inspect_model(folder_of(tmp_path / "m", config, tensors))
    assert (found.format, found.method, found.bits, found.parameters) == ("bnb", "NF4", 4, 10 * 64 + 64 * 64)


def test_gptq_counts_the_packed_weights(tmp_path: Path) -> None:
    config = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 32}}
    tensors = {
        "model.q.qweight": np.zeros((64 // 8, 48), np.int32),
        "model.q.qzeros": np.zeros((2, 6), np.int32),
        "model.q.scales": np.zeros((2, 48), np.float16),
        "model.q.g_idx": np.zeros(64, np.int32),
    }
    found = inspect_model(folder_of(tmp_path / "m", config, tensors))
    assert (found.format, found.method, found.bits, found.parameters) == (
        "gptq",
        "GPTQ 4-bit g32",
        4,
        64 * 48,
    )


def test_foreign_quantization_is_named(tmp_path: Path) -> None:
    model = folder_of(
        tmp_path / "m", {"quantization_config": {"quant_method": "awq"}}, {"w": np.zeros(4, np.float32)}
    )
    with pytest.raises(ModelUnusableError, match="'awq', is not supported"):
        inspect_model(model)


def test_folder_with_only_pickle_weights_is_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelUnusableError, match=r"only pickle weights \(pytorch_model\.bin\)") as caught:
        inspect_model(copy)
    assert "safetensors" in caught.value.hint


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_remote_code_is_refused_unless_trusted(copy: Path, file: str) -> None:
    config = json.loads((copy / file).read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_evil.Evil"}
    (copy / file).write_text(json.dumps(config))
    with pytest.raises(ModelUnusableError, match=f"auto_map in {file}") as caught:
        inspect_model(copy)
    assert "backend.trust_remote_code" in caught.value.hint
    assert inspect_model(copy, trust_remote_code=True).format == "transformers"


@pytest.mark.parametrize("keep", [0, 5, 100, 3000, -1])
def test_weights_cut_short_are_refused(copy: Path, keep: int) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(
        ModelUnusableError, match=r"model: model\.safetensors (is|has).*(empty|cut short|damaged)"
    ):
        inspect_model(copy)


def write_safetensors(path: Path, header: object, data: bytes = b"") -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize(
    "header",
    [
        {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}},
        {"w": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}},
        {"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}},
        {"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        {"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}},
        {"w": "nothing"},
        {"w": {}},
        [],
        {},
    ],
    ids=["size", "dtype", "negative", "hole", "huge", "text", "empty entry", "list", "no tensors"],
)
def test_lying_safetensors_header_is_refused(copy: Path, header: object) -> None:
    write_safetensors(copy / "model.safetensors", header, bytes(8))
    with pytest.raises(ModelUnusableError):
        inspect_model(copy)


def test_missing_shard_is_named(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelUnusableError, match=r"1 of 2 weight files are missing, model-00002-of-00002"):
        inspect_model(copy)


def test_index_cannot_point_out_of_its_folder(copy: Path) -> None:
    index = {"weight_map": {"a": "../../etc/passwd"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelUnusableError, match="outside of its folder"):
        inspect_model(copy)


@pytest.mark.parametrize(
    "config", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"quantization_config": 3}']
)
def test_damaged_config_is_refused(copy: Path, config: bytes) -> None:
    (copy / "config.json").write_bytes(config)
    with pytest.raises(ModelUnusableError, match=r"config\.json is damaged"):
        inspect_model(copy)


def test_version_is_stable_and_follows_the_content(copy: Path) -> None:
    first = content_version(copy)
    assert content_version(copy) == first
    assert len(first) == 12
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 0xFF
    (copy / "model.safetensors").write_bytes(weights)
    second = content_version(copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "rope_theta": 5}))
    assert len({first, second, content_version(copy)}) == 3


def test_version_does_not_depend_on_the_place(copy: Path, checkpoint: Path) -> None:
    assert content_version(copy) == content_version(checkpoint)
