"""Folders as the hub's tools, its cache and other programs leave them, and files that lie beside a model.

Reported as unsloth #9409, llama.cpp #15076 (projectors and matrices listed as models), warpdrv #7 (nested folders),
InvokeAI #7158 (.GGUF), textgen #6187 and #6080 (pieces of a file), transformers #27923, OmniParser #34 and exllama #242
(pointers of Git LFS), transformerlab-app #571 (a config.json beside GGUF files).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub.utils import filter_repo_objects

from lqmf_runner.config import BackendConfig, ModelConfig
from lqmf_runner.errors import LqmfError, ModelNotFoundError, ModelUnusableError
from lqmf_runner.models import content_version, discover, inspect_model, locate
from lqmf_runner.models.hub import CHECKPOINT_FILES, NEVER

from ...support.models.tiny import make_checkpoint, make_gguf


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gguf(tmp_path_factory.mktemp("model") / "m.gguf")


def put(model: Path, *places: Path) -> None:
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(model, place)


def side(path: Path, kind: str, architecture: str = "llama") -> None:
    import gguf
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type(kind)
    writer.add_tensor("x", np.zeros((2, 32), dtype=np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()


def names(root: Path) -> list[str]:
    return [found.name for found in discover(root) if not found.problem]


def found(root: Path, name: str) -> str:
    return locate(ModelConfig(name=name), BackendConfig(), root).path


@pytest.mark.parametrize(
    ("kind", "architecture", "what"),
    [("mmproj", "clip", "projector"), ("model", "clip", "projector"), ("adapter", "llama", "adapter"),
     ("imatrix", "llama", "importance matrix"), ("draft", "llama", "type 'draft'")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a-{}.gguf", "{}-z.gguf"])
def test_a_side_file_is_no_model(
    model: Path, tmp_path: Path, kind: str, architecture: str, what: str, name: str
) -> None:
    put(model, tmp_path / "thing" / "m.gguf")
    beside = tmp_path / "thing" / name.format("x")
    side(beside, kind, architecture)
    side(tmp_path / "bare.gguf", kind, architecture)
    assert [found.name for found in discover(tmp_path)] == ["thing"]
    assert found(tmp_path, "thing") == str(tmp_path / "thing" / "m.gguf")
    with pytest.raises(ModelUnusableError, match=what):
        inspect_model(beside)


def test_one_model_in_a_subfolder_has_the_folder_s_name(model: Path, tmp_path: Path) -> None:
    put(
        model,
        tmp_path / "nested" / "UD-Q4_K_XL" / "thing.gguf",
        tmp_path / "pub" / "repo" / "deep" / "m.gguf",
    )
    assert names(tmp_path) == ["nested", "pub"]
    assert found(tmp_path, "pub").endswith("pub/repo/deep/m.gguf")


def test_several_models_are_told_apart_by_what_leads_to_them(model: Path, tmp_path: Path) -> None:
    put(model, tmp_path / "two" / "Q4" / "x.gguf", tmp_path / "two" / "Q8" / "x.gguf")
    put(model, tmp_path / "mixed" / "top.gguf", tmp_path / "mixed" / "BF16" / "a.gguf")
    make_checkpoint(tmp_path / "mixed" / "folder")
    assert names(tmp_path) == ["mixed--BF16", "mixed--folder", "mixed--top", "two--Q4", "two--Q8"]
    assert found(tmp_path, "two--Q8").endswith("two/Q8/x.gguf")
    with pytest.raises(ModelNotFoundError, match="two holds 2 models") as error:
        found(tmp_path, "two")
    assert "model.name=two--Q4" in error.value.hint
    with pytest.raises(LqmfError, match=r"model\.path=two/Q4"):
        inspect_model(tmp_path / "two")


def test_a_hub_cache_has_the_snapshot_of_its_branch(model: Path, tmp_path: Path) -> None:
    repo = tmp_path / "models--owner--thing"
    put(model, repo / "blobs" / "abc")
    for revision in ("old", "new"):
        (repo / "snapshots" / revision).mkdir(parents=True)
        (repo / "snapshots" / revision / "m.gguf").symlink_to("../../blobs/abc")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("new")
    assert names(tmp_path) == ["models--owner--thing"]
    assert found(tmp_path, "models--owner--thing").endswith("snapshots/new/m.gguf")


def test_a_link_out_of_the_folder_is_named_at_any_depth(model: Path, tmp_path: Path) -> None:
    put(model, tmp_path / "elsewhere" / "m.gguf")
    (tmp_path / "models" / "thing" / "inner").mkdir(parents=True)
    (tmp_path / "models" / "thing" / "inner" / "m.gguf").symlink_to(tmp_path / "elsewhere" / "m.gguf")
    (one,) = discover(tmp_path / "models")
    assert (one.name, "leads out of the models folder" in one.problem) == ("thing", True)


def test_a_path_may_be_typed_as_a_shell_completes_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(model, tmp_path / "quantized-models" / "nested" / "Q4" / "m.gguf")
    monkeypatch.chdir(tmp_path)
    for typed in ("nested/Q4", "quantized-models/nested/Q4/", "./quantized-models/nested/Q4/m.gguf"):
        spec = locate(ModelConfig(name="x", path=typed), BackendConfig(), "quantized-models")
        assert spec.path == str(tmp_path / "quantized-models" / "nested" / "Q4" / "m.gguf")


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_tokenizer_and_template_are_part_of_the_version(tmp_path: Path, file: str) -> None:
    folder = make_checkpoint(tmp_path / "one")
    before = content_version(folder)
    assert content_version(folder) == before
    with (folder / file).open("a") as stream:
        stream.write(" ")
    assert content_version(folder) != before


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n"


def test_a_suffix_in_capitals_is_one(model: Path, tmp_path: Path) -> None:
    put(model, tmp_path / "Bare.GGUF", tmp_path / "folder" / "M.GGUF")
    assert names(tmp_path) == ["Bare", "folder"]
    assert found(tmp_path, "Bare") == str(tmp_path / "Bare.GGUF")
    assert found(tmp_path, "folder") == str(tmp_path / "folder" / "M.GGUF")


def test_a_config_beside_gguf_files_is_no_checkpoint(model: Path, tmp_path: Path) -> None:
    put(model, tmp_path / "thing" / "m-Q4.gguf")
    (tmp_path / "thing" / "config.json").write_text('{"model_type": "llama"}')
    assert names(tmp_path) == ["thing"]
    assert found(tmp_path, "thing") == str(tmp_path / "thing" / "m-Q4.gguf")
    chosen = ModelConfig(name="x", path="thing", file="*Q4*")
    assert locate(chosen, BackendConfig(), tmp_path).path == str(tmp_path / "thing" / "m-Q4.gguf")


def test_a_gguf_that_was_made_in_its_checkpoint_s_folder_is_a_model_too(model: Path, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "thing")
    put(model, folder / "m-Q4.gguf")
    assert names(tmp_path) == ["thing", "thing--m-Q4"]
    assert found(tmp_path, "thing") == str(folder)
    assert found(tmp_path, "thing--m-Q4") == str(folder / "m-Q4.gguf")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["m.gguf.part2of2", "m.gguf.part1of2"], "cat m.gguf.part1of2 m.gguf.part2of2 > m.gguf"),
        (["m.gguf-split-a", "m.gguf-split-b"], "cat m.gguf-split-a m.gguf-split-b > m.gguf"),
        (["m-00002-of-00002.gguf"], "its first part is missing"),
        (["m.gguf.part"], "its download is not finished"),
    ],
)
def test_what_keeps_a_folder_from_being_a_model_is_named(
    model: Path, tmp_path: Path, files: list[str], says: str
) -> None:
    put(model, *(tmp_path / "thing" / name for name in files))
    (one,) = discover(tmp_path)
    assert says in one.problem


@pytest.mark.parametrize("file", ["m.gguf", "model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize(
    ("content", "says"), [(LFS_POINTER, "git lfs pull"), (b"\n<!DOCTYPE html><html>", "a web page")]
)
def test_a_pointer_or_page_in_the_place_of_a_file_is_named(
    tmp_path: Path, file: str, content: bytes, says: str
) -> None:
    folder = tmp_path / "thing"
    if file != "m.gguf":
        make_checkpoint(folder)
    folder.mkdir(exist_ok=True)
    (folder / file).write_bytes(content)
    (one,) = discover(tmp_path)
    assert says in one.problem


def test_a_checkpoint_without_a_tokenizer_is_not_ready(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "thing")
    (folder / "tokenizer.json").unlink()
    (one,) = discover(tmp_path)
    assert "no tokenizer" in one.problem


def test_the_hub_s_subfolders_are_left_there_but_for_templates() -> None:
    files = [
        "config.json",
        "original/params.json",
        "original/x.safetensors",
        "modeling.py",
        "pytorch_model.bin",
    ]
    wanted = ["additional_chat_templates/tool_use.jinja", "spiece.model", "qwen.tiktoken"]
    kept = filter_repo_objects([*files, *wanted], allow_patterns=CHECKPOINT_FILES, ignore_patterns=NEVER)
    assert list(kept) == ["config.json", *wanted]
