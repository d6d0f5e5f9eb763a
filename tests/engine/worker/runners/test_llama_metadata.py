"""What a GGUF says for chat templates, and nothing that it does not say."""

from __future__ import annotations

from pathlib import Path

import gguf

from lqmf_runner.engine.worker.runners.llama_metadata import chat_templates, special_tokens
from tests.support.models.templates import vocabulary_of
from tests.support.models.tiny import SPECIAL, make_gguf, vocabulary


def bare_gguf(path: Path, *, spm: bool = False) -> Path:
    """A vocabulary alone, that names no special tokens and no template."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama" if spm else "gpt2")
    writer.add_tokenizer_pre("default")
    tokens = ["<unk>", "<s>", "</s>", "a"] if spm else vocabulary()
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(tokens))
    if spm:
        writer.add_token_scores([0.0] * len(tokens))
    else:
        writer.add_token_merges(["t h"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_every_special_token_of_the_file_has_its_name(tmp_path: Path) -> None:
    with vocabulary_of(make_gguf(tmp_path / "m.gguf")) as model:
        assert special_tokens(model) == {
            "bos_token": SPECIAL[1], "eos_token": SPECIAL[2], "unk_token": SPECIAL[0], "pad_token": SPECIAL[2],
        }  # fmt: skip


def test_tokens_that_a_file_does_not_name_are_not_made_up(tmp_path: Path) -> None:
    with vocabulary_of(bare_gguf(tmp_path / "m.gguf")) as model:
        assert special_tokens(model) == {}
        assert chat_templates(model) == {}


def test_a_sentencepiece_vocabulary_has_its_usual_ones(tmp_path: Path) -> None:
    with vocabulary_of(bare_gguf(tmp_path / "m.gguf", spm=True)) as model:
        assert special_tokens(model) == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def test_templates_are_whole_whatever_their_length_and_letters(tmp_path: Path) -> None:
    source = "x" * 300 + "{# é猫 #}" * 20_000
    with vocabulary_of(make_gguf(tmp_path / "m.gguf", template=source)) as model:
        assert chat_templates(model) == {"default": source}
