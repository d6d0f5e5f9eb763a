"""What a loaded GGUF says for chat templates: their sources, and the special tokens they may name.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. llama.cpp's own getters are not asked, as they make up
what the file does not say: a template for some models, the tokens of GPT-2 for a vocabulary without special ones.
"""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp

_TEMPLATE = "tokenizer.chat_template"
_TOKENS = {
    "bos_token": "bos",
    "eos_token": "eos",
    "unk_token": "unknown",
    "sep_token": "seperator",  # the format spells it so
    "pad_token": "padding",
    "cls_token": "cls",
    "mask_token": "mask",
}
_SPM_TOKENS = {
    "bos_token": 1,
    "eos_token": 2,
    "unk_token": 0,
}  # of a SentencePiece vocabulary, if it names none


def chat_templates(model: Any) -> dict[str, str]:
    """Jinja sources by name; the one without a name is "default"."""
    templates = {}
    for key in _keys(model):
        if key == _TEMPLATE or key.startswith(_TEMPLATE + "."):
            name = key.removeprefix(_TEMPLATE).removeprefix(".") or "default"
            templates[name] = _value(model, key)
    return {name: source for name, source in templates.items() if source}


def special_tokens(model: Any) -> dict[str, str]:
    """`bos_token`, `eos_token`, ... as text, as far as the file names them."""
    vocab = llama_cpp.llama_model_get_vocab(model)
    ids = dict(_SPM_TOKENS) if llama_cpp.llama_vocab_type(vocab) == llama_cpp.LLAMA_VOCAB_TYPE_SPM else {}
    known = set(_keys(model))
    for name, word in _TOKENS.items():
        key = f"tokenizer.ggml.{word}_token_id"
        if key in known and (value := _value(model, key)).isdecimal():
            ids[name] = int(value)
    size = llama_cpp.llama_vocab_n_tokens(vocab)
    return {
        name: (llama_cpp.llama_vocab_get_text(vocab, token) or b"").decode(errors="replace")
        for name, token in ids.items()
        if token < size
    }


def _keys(model: Any) -> list[str]:
    keys = []
    for index in range(llama_cpp.llama_model_meta_count(model)):
        size = llama_cpp.llama_model_meta_key_by_index(model, index, b"", 0)
        buffer = ctypes.create_string_buffer(size + 1)
        llama_cpp.llama_model_meta_key_by_index(model, index, buffer, size + 1)
        keys.append(buffer.value.decode(errors="replace"))
    return keys


def _value(model: Any, key: str) -> str:
    size = llama_cpp.llama_model_meta_val_str(model, key.encode(), b"", 0)
    buffer = ctypes.create_string_buffer(max(size, 0) + 1)
    llama_cpp.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode(errors="replace")
