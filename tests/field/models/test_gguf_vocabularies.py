"""GGUF files that leave open how their model reads and ends texts: no token is made up, and the load says so.

Reported as llama.cpp #7476, ollama #4126 and wllama #41 (no `tokenizer.ggml.pre`: other tokens, without a word) and
llama.cpp #3635 (ids that are not in the vocabulary; llama.cpp takes GPT-2's number, which is a bracket or a comma).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from lqmf_runner.engine.worker.runners.llama_cpp import LlamaCppRunner, LlamaCppTokenizer
from lqmf_runner.types import ModelSpec

from ...support.models.templates import vocabulary_of
from ...support.models.tiny import SPECIAL, make_gguf

EOS, PRE = "tokenizer.ggml.eos_token_id", "tokenizer.ggml.pre"


@pytest.mark.parametrize("leave_out", [(), (EOS,)])
def test_only_special_tokens_end_an_answer(tmp_path: Path, leave_out: tuple[str, ...]) -> None:
    with vocabulary_of(make_gguf(tmp_path / "m.gguf", leave_out=leave_out)) as model:
        tokenizer = LlamaCppTokenizer(model)
    assert {SPECIAL[token] for token in tokenizer.eos_ids} == {"<|endoftext|>", "<|im_end|>"}


def test_an_ordinary_token_ends_an_answer_where_the_file_names_it(tmp_path: Path) -> None:
    with vocabulary_of(make_gguf(tmp_path / "m.gguf", eos=40)) as model:
        assert 40 in LlamaCppTokenizer(model).eos_ids
    with vocabulary_of(make_gguf(tmp_path / "out.gguf", eos=99_999)) as model:
        assert LlamaCppTokenizer(model).eos_ids == {0, 2}


@pytest.mark.parametrize(("leave_out", "notes"), [((), 0), ((PRE,), 1)])
def test_a_file_that_does_not_say_how_it_splits_text_is_loaded_with_a_note(
    tmp_path: Path, leave_out: tuple[str, ...], notes: int
) -> None:
    path = make_gguf(tmp_path / "m.gguf", leave_out=leave_out)
    options = {"n_ctx": 64, "max_slots": 1, "n_threads": 1}
    spec = ModelSpec(name="m", format="gguf", path=str(path), options=options)
    found = LlamaCppRunner.load(spec, lambda done: None).info.notes
    assert sum(PRE in note for note in found) == notes
