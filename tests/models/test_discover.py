"""Discovery lists everything, the broken with its reason, and survives whatever lies in the folder."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pytest

from lqmf_runner.models import discover
from lqmf_runner.models.discover import weights_mb


@pytest.fixture
def models_dir(tmp_path: Path, checkpoint: Path, gguf_file: Path) -> Path:
    root = tmp_path / "quantized-models"
    root.mkdir()
    shutil.copytree(checkpoint, root / "good_bf16")
    shutil.copy(gguf_file, root / "bare.gguf")
    (root / "folder_gguf").mkdir()
    shutil.copy(gguf_file, root / "folder_gguf" / "weights.gguf")
    return root


def problems(root: Path) -> dict[str, str]:
    return {found.name: found.problem for found in discover(root)}


def test_good_models_are_listed_by_content(models_dir: Path) -> None:
    listed = [(found.name, found.format, found.problem) for found in discover(models_dir)]
    assert listed == [("bare", "gguf", ""), ("folder_gguf", "gguf", ""), ("good_bf16", "transformers", "")]


def test_broken_models_are_listed_with_the_reason(models_dir: Path) -> None:
    (models_dir / "empty.gguf").touch()
    (models_dir / "empty_folder").mkdir()
    (models_dir / "adapter").mkdir()
    (models_dir / "adapter" / "adapter_config.json").write_text("{}")
    (models_dir / "half").mkdir()
    (models_dir / "half" / "config.json").write_text("{")
    listed = problems(models_dir)
    assert listed["empty"] == "the file is empty"
    assert "neither a config.json nor a *.gguf" in listed["empty_folder"]
    assert "adapter (LoRA)" in listed["adapter"]
    assert listed["half"].startswith("config.json is damaged")
    assert listed["good_bf16"] == ""


def test_hidden_and_foreign_entries_are_passed_over(models_dir: Path) -> None:
    (models_dir / ".partial-x-1").mkdir()
    (models_dir / "README.md").write_text("models go here")
    assert set(problems(models_dir)) == {"bare", "folder_gguf", "good_bf16"}


def test_several_models_in_one_folder_are_listed_each(models_dir: Path, gguf_file: Path) -> None:
    shutil.copy(gguf_file, models_dir / "folder_gguf" / "other.gguf")
    assert {"folder_gguf--weights", "folder_gguf--other"} <= set(problems(models_dir))


def test_links_out_of_the_folder_are_not_followed(
    models_dir: Path, checkpoint: Path, gguf_file: Path
) -> None:
    (models_dir / "linked").symlink_to(checkpoint)
    (models_dir / "linked.gguf").symlink_to(gguf_file)
    (models_dir / "inside").mkdir()
    (models_dir / "inside" / "model.gguf").symlink_to(gguf_file)
    listed = discover(models_dir)
    outside = [found for found in listed if "symbolic link" in found.problem]
    assert len(outside) == 3
    assert all(found.size_mb == 0 for found in outside)


def test_links_within_the_folder_are_followed(models_dir: Path) -> None:
    (models_dir / "alias").symlink_to("good_bf16")
    assert problems(models_dir)["alias"] == ""


def test_links_from_one_listed_folder_into_another_are_followed(models_dir: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    (second / "linked").symlink_to(models_dir / "good_bf16")
    (second / "bare.gguf").symlink_to(models_dir / "bare.gguf")
    assert {m.name: bool(m.problem) for m in discover(second)} == {"linked": True, "bare.gguf": True}
    both = discover([models_dir, second])
    assert [(m.name, m.problem) for m in both] == [
        ("bare", ""), ("folder_gguf", ""), ("good_bf16", ""), ("linked", ""),
    ]  # fmt: skip


def test_of_two_models_with_one_name_the_first_folder_s_has_it(models_dir: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    shutil.copytree(models_dir / "folder_gguf", second / "good_bf16")
    first, hidden = (m for m in discover([models_dir, second]) if m.name == "good_bf16")
    assert (first.format, first.problem) == ("transformers", "")
    assert "its name is that of another model" in hidden.problem
    assert hidden.path == str(second / "good_bf16" / "weights.gguf")


def test_special_files_do_not_hang_it(models_dir: Path) -> None:
    os.mkfifo(models_dir / "pipe.gguf")
    (models_dir / "fifo_inside").mkdir()
    os.mkfifo(models_dir / "fifo_inside" / "model.gguf")
    os.mkfifo(models_dir / "fifo_inside" / "config.json")
    (models_dir / "loop").symlink_to("loop")
    listed = problems(models_dir)
    assert listed["good_bf16"] == ""
    assert listed["fifo_inside"]


def test_names_that_are_not_unicode_are_listed(models_dir: Path) -> None:
    os.mkdir(os.fsencode(models_dir) + b"/bad\xff\x1b[31m")
    names = [found.name for found in discover(models_dir)]
    assert all(name.isprintable() for name in names)
    assert len(names) == 4


def test_random_files_never_crash_it(models_dir: Path) -> None:
    dice = random.Random(3)
    names = [
        "config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "tokenizer_config.json",
        "x.gguf",
    ]
    starts = [b"", b"GGUF\x03\0\0\0", b"{", b'{"weight_map": ', b"\x08\0\0\0\0\0\0\0{}", b"\xff" * 8]
    for i in range(150):
        folder = models_dir / f"noise{i:03}"
        folder.mkdir()
        for name in dice.sample(names, dice.randint(1, len(names))):
            (folder / name).write_bytes(dice.choice(starts) + dice.randbytes(dice.randint(0, 200)))
    listed = problems(models_dir)
    assert sum(bool(listed[f"noise{i:03}"]) for i in range(150)) == 150
    assert listed["good_bf16"] == ""


def test_missing_folder_holds_no_models(tmp_path: Path) -> None:
    assert discover(tmp_path / "nowhere") == []


def test_the_size_of_weights_is_that_of_their_files(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x" * 2_000_000)
    (tmp_path / "README.md").write_bytes(b"x" * 5_000_000)
    assert weights_mb(str(tmp_path)) == 2.0
    assert weights_mb(str(tmp_path / "model.safetensors")) == 2.0
    assert weights_mb("") == 0.0


def test_of_a_gguf_that_is_split_all_parts_count(tmp_path: Path) -> None:
    for name in ("m[1]-00001-of-00002", "m[1]-00002-of-00002", "m[1]-00001-of-00003", "m2-00002-of-00002"):
        (tmp_path / f"{name}.gguf").write_bytes(b"x" * 2_000_000)
    assert weights_mb(tmp_path / "m[1]-00001-of-00002.gguf") == 4.0


def test_weights_in_another_form_beside_those_that_are_loaded_do_not_count(tmp_path: Path) -> None:
    for name in (
        "a-00001.safetensors",
        "a-00002.safetensors",
        "consolidated.safetensors",
        "pytorch_model.bin",
    ):
        (tmp_path / name).write_bytes(b"x" * 2_000_000)
    assert weights_mb(tmp_path) == 8.0, "nothing says which are loaded"
    shards = {"one": "a-00001.safetensors", "two": "a-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert weights_mb(tmp_path) == 4.0
