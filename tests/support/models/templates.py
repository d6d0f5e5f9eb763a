"""Models that hold chat templates, and what transformers' own `apply_chat_template` renders with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
from transformers import AutoTokenizer

from lqmf_runner.engine.worker.runners.llama_cpp import LlamaCppTokenizer
from lqmf_runner.engine.worker.runners.transformers_tokenizer import HuggingFaceTokenizer

from .tiny import make_gguf, make_tokenizer

Found = tuple[dict[str, str], dict[str, str]]  # templates by name, special tokens


def make_folder(folder: Path, templates: Mapping[str, str]) -> Path:
    """A folder with a tokenizer alone, which is all that a template needs."""
    one = list(templates) == ["default"]
    make_tokenizer(templates["default"] if one else dict(templates)).save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


def read_folder(folder: Path) -> Found:
    """The templates and special tokens of a folder as the engine reads them."""
    tokenizer = HuggingFaceTokenizer(str(folder), set())
    return tokenizer.chat_templates, tokenizer.special_tokens


def read_gguf(path: Path, templates: Mapping[str, str]) -> Found:
    """The templates and special tokens of a GGUF that is made with these templates, as the engine reads them."""
    listed = [{"name": name, "template": source} for name, source in templates.items()]
    with vocabulary_of(make_gguf(path, template=listed)) as model:
        tokenizer = LlamaCppTokenizer(model)
        return tokenizer.chat_templates, tokenizer.special_tokens


@contextmanager
def vocabulary_of(path: Path) -> Iterator[Any]:
    """A GGUF that llama.cpp has loaded without its weights."""
    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    assert model
    yield model
    llama_cpp.llama_model_free(model)


class Reference:
    """`AutoTokenizer` of a folder."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder)

    def render(self, messages: list[dict[str, Any]], **options: Any) -> str:
        """What transformers renders; it raises what transformers raises."""
        options = {"add_generation_prompt": True} | options
        text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, **options)
        return text
