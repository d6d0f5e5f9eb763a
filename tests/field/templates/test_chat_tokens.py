"""The tokens of a chat are those that transformers makes of it: the template writes the BOS, or there is none.

A GGUF has exactly one where its vocabulary asks for it, as in llama.cpp. Reports of this kind: llama-cpp-python #1439,
vllm #5278, sglang #888.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from lqmf_runner.engine.sandbox.template_set import ChatTemplateSet
from lqmf_runner.engine.worker.runners.llama_cpp import LlamaCppTokenizer
from lqmf_runner.engine.worker.runners.transformers_tokenizer import HuggingFaceTokenizer
from lqmf_runner.types import Message
from tests.support.models.templates import vocabulary_of
from tests.support.models.tiny import SPECIAL, make_gguf, make_tokenizer

TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
TEMPLATES = {"with BOS": "{{ bos_token }}" + TURNS, "without": TURNS, "twice": "{{ bos_token }}" * 2 + TURNS}


@pytest.mark.parametrize("adds_bos", [True, False])
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_folder(template: str, adds_bos: bool, tmp_path: Path) -> None:
    made = make_tokenizer(template)
    if adds_bos:
        bos = SPECIAL[1]
        made.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, 1)]
        )
    made.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    talk = [{"role": "user", "content": f"the {SPECIAL[2]} é"}]
    theirs = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(talk, return_dict=False)
    ours = HuggingFaceTokenizer(str(tmp_path), set())
    assert ours.add_bos == adds_bos
    text = ChatTemplateSet(ours.chat_templates, ours.special_tokens).render((Message(**talk[0]),))
    assert ours.encode_chat(text) == theirs


@pytest.mark.parametrize("template", [TEMPLATES["with BOS"], TEMPLATES["without"]])
def test_a_gguf(template: str, tmp_path: Path) -> None:
    with vocabulary_of(make_gguf(tmp_path / "m.gguf", template=template, add_bos=True)) as model:
        tokenizer = LlamaCppTokenizer(model)
        assert tokenizer.add_bos
        text = ChatTemplateSet(tokenizer.chat_templates, tokenizer.special_tokens).render(
            (Message("user", "hi"),)
        )
        assert tokenizer.encode_chat(text).count(1) == 1
        assert tokenizer.encode_chat(text)[0] == 1
