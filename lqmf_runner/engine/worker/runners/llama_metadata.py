"""What a loaded GGUF says of its vocabulary and chat templates.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. llama.cpp's own getters are not asked, as they make up
what the file does not say: a template for some models, the tokens of GPT-2 for a vocabulary without special ones.
"""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp

_TEMPLATE = "tokenizer.chat_template"
_SPLIT = "tokenizer.ggml.pre"
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


def end_tokens(model: Any) -> frozenset[int]:
    """The tokens that end an answer.

    Where a file names none, or one that is not in its vocabulary, llama.cpp takes the one with GPT-2's number. It is an
    ordinary token, and those end nothing unless the file names them.
    """
    vocab = llama_cpp.llama_model_get_vocab(model)
    named = {_value(model, key) for key in _keys(model) if key.startswith("tokenizer.ggml.eo")}
    return frozenset(
        token
        for token in range(llama_cpp.llama_vocab_n_tokens(vocab))
        if llama_cpp.llama_vocab_is_eog(vocab, token)
        and (
            str(token) in named
            or not llama_cpp.llama_vocab_get_attr(vocab, token) & llama_cpp.LLAMA_TOKEN_ATTR_NORMAL
        )
    )


def vocabulary_notes(model: Any) -> list[str]:
    """What the file leaves open of how its model reads and ends texts."""
    vocab, keys, notes = llama_cpp.llama_model_get_vocab(model), _keys(model), []
    if llama_cpp.llama_vocab_type(vocab) == llama_cpp.LLAMA_VOCAB_TYPE_BPE and _SPLIT not in keys:
        notes.append(
            f"its file does not say how the model splits text ({_SPLIT}): llama.cpp's default may give other tokens"
            " than the model knows; convert it again"
        )
    if not end_tokens(model):
        notes.append(
            "its file names no token that ends an answer: answers end at max_tokens or a stop string"
        )
    return notes


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
