"""Which files of a repository are fetched, by their names and sizes alone."""

from __future__ import annotations

import pytest

from lqmf_runner.errors import ModelUnusableError, UserInputError
from lqmf_runner.models.pull import HubFile, Repository, SeveralModelsError, choose

CHECKPOINT = ["config.json", "tokenizer.json", "model.safetensors"]


def repository(*paths: str) -> Repository:
    return Repository("owner/name", "c0ffee", tuple(HubFile(path, 1000, "d1") for path in paths))


def chosen(*paths: str, pattern: str | None = None, pickles: bool = False) -> set[str]:
    return {file.path for file in choose(repository(*paths), pattern, pickles=pickles).files}


@pytest.mark.parametrize(
    ("more", "left"),
    [
        (["pytorch_model.bin", "training_args.bin", "modeling_x.py", "README.md", ".gitattributes"], "all"),
        (["onnx/model.onnx", "original/consolidated.00.pth", "fp16/model.safetensors"], "all"),
        (["consolidated.safetensors", "model.fp16.safetensors"], "all"),
        (["chat_template.jinja", "additional_chat_templates/rag.jinja", "merges.txt"], "none"),
    ],
)
def test_a_checkpoint_is_its_usual_weights_and_what_describes_them(more: list[str], left: str) -> None:
    assert chosen(*CHECKPOINT, *more) == {*CHECKPOINT, *(more if left == "none" else [])}


def test_weights_in_parts_go_before_other_copies_of_them() -> None:
    parts = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    assert chosen("config.json", *parts, "consolidated.safetensors") == {"config.json", *parts}
    assert chosen("config.json", "gptq_model-4bit-128g.safetensors") == {
        "config.json",
        "gptq_model-4bit-128g.safetensors",
    }


GGUFS = ["name-Q4_0.gguf", "name-Q4_K_M.gguf", "name-Q8_0.gguf", "mmproj-F16.gguf", "imatrix_unsloth.gguf"]


def test_of_several_ggufs_one_is_to_be_named() -> None:
    with pytest.raises(SeveralModelsError) as raised:
        chosen(*GGUFS, "config.json")
    assert raised.value.message == "owner/name has 3 GGUF models"
    assert "name-Q8_0.gguf (0.001 MB)" in raised.value.hint
    assert "mmproj" not in raised.value.hint
    with pytest.raises(SeveralModelsError, match=r"2 GGUF models that match '\*Q4\*'"):
        chosen(*GGUFS, pattern="*Q4*")
    with pytest.raises(UserInputError, match="no GGUF file of owner/name matches") as none:
        chosen(*GGUFS, pattern="*Q5*")
    assert "name-Q4_0.gguf" in none.value.hint


@pytest.mark.parametrize("pattern", ["*q4_k_m*", "name-Q4_K_M.gguf", "*K_M.gguf"])
def test_a_pattern_names_one_whatever_its_case(pattern: str) -> None:
    assert chosen(*GGUFS, pattern=pattern) == {"name-Q4_K_M.gguf"}


def test_the_parts_of_a_split_gguf_are_one_model_wherever_they_lie() -> None:
    parts = [f"Q4/big-Q4-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    assert chosen(*parts, "small-Q8_0.gguf", pattern="q4/*") == set(parts)
    assert chosen(*parts) == set(parts)
    choice = choose(repository(*parts))
    assert [choice.place(file) for file in choice.files] == [path.removeprefix("Q4/") for path in parts]


def test_pickles_are_refused_unless_asked_for() -> None:
    with pytest.raises(ModelUnusableError, match="only pickled weights"):
        chosen("config.json", "pytorch_model.bin", "training_args.bin")
    assert chosen("config.json", "pytorch_model.bin", "training_args.bin", pickles=True) == {
        "config.json",
        "pytorch_model.bin",
    }
    assert chosen(*CHECKPOINT, "pytorch_model.bin", pickles=True) == set(CHECKPOINT)


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (["adapter_config.json", "adapter_model.safetensors"], "an adapter"),
        (["model.safetensors"], "weights but no config.json"),
        (["README.md"], "no weights that can run here"), ([], "no weights that can run here"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_said(paths: list[str], says: str) -> None:
    with pytest.raises(ModelUnusableError, match=says):
        chosen(*paths)
