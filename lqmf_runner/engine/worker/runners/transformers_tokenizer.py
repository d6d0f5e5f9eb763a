"""The tokenizer of a Hugging Face checkpoint."""

from __future__ import annotations

import functools
import json
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as FastTokenizer
from tokenizers.decoders import DecodeStream
from transformers import AutoTokenizer

from ....errors import ModelUnusableError
from ..text import Detokenizer
from .base import Tokenizer


class _StreamDetokenizer:
    """The tokenizer library's own incremental decoder."""

    def __init__(self, tokenizer: FastTokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._held: list[int] = []

    def add(self, token: int) -> str:
        text = self._stream.step(self._tokenizer, token) or ""
        self._held = [] if text else [*self._held, token]
        return text

    def finish(self) -> str:
        return self._tokenizer.decode(self._held, skip_special_tokens=True)


class HuggingFaceTokenizer(Tokenizer):
    """A `tokenizer.json` with its configuration."""

    def __init__(self, path: str, eos_ids: set[int]) -> None:
        wrapper = _read_tokenizer(path)
        self._tokenizer: FastTokenizer = wrapper.backend_tokenizer
        self._lock = threading.Lock()
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        if wrapper.eos_token_id is not None:
            eos_ids = eos_ids | {wrapper.eos_token_id}
        self.eos_ids = frozenset(eos_ids)
        self.bos_id = wrapper.bos_token_id
        with_special = self._tokenizer.encode("a", add_special_tokens=True).ids
        self.add_bos = self.bos_id is not None and with_special[:1] == [self.bos_id]
        self.chat_templates = _chat_templates(wrapper.chat_template, Path(path))
        self.special_tokens = {
            name: value for name, value in wrapper.special_tokens_map.items() if isinstance(value, str)
        }

    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        with self._lock:
            self._tokenizer.encode_special_tokens = not parse_special
            return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_chat(self, text: str) -> list[int]:
        """Without a BOS of its own, as in transformers: the template writes one where the model expects it."""
        return self.encode(text, parse_special=True)

    def entry(self, token: int) -> bytes:
        return (self._tokenizer.id_to_token(token) or "").encode()

    def detokenizer(self) -> Detokenizer:
        return _StreamDetokenizer(self._tokenizer)

    def token_text(self, token: int) -> str:
        return self._tokenizer.decode([token], skip_special_tokens=False)

    def token_bytes(self, token: int) -> bytes:
        if token in self._added:
            added = self._added[token]
            return b"" if added.special else added.content.encode()
        piece = self._tokenizer.id_to_token(token)
        return b"" if piece is None else piece_bytes(piece, self._decoders)

    @functools.cached_property
    def _added(self) -> dict[int, Any]:
        added: dict[int, Any] = self._tokenizer.get_added_tokens_decoder()
        return added

    @functools.cached_property
    def _decoders(self) -> list[dict[str, Any]]:
        decoder = self._tokenizer.decoder
        found = {} if decoder is None else json.loads(decoder.__getstate__())
        steps: list[dict[str, Any]] = found.get("decoders", [found])
        return steps


def _read_tokenizer(path: str) -> Any:
    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as error:
        raise ModelUnusableError(
            f"the model's tokenizer or chat template cannot be read: {type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}",
            hint="fetch the model's files again",
        ) from error


def _chat_templates(found: str | dict[str, str] | None, folder: Path) -> dict[str, str]:
    """By name: transformers gives a single one as its text.

    Where files add templates and none of them is the default, transformers forgets the one of tokenizer_config.json.
    """
    named: dict[str, str | None] = {**found} if isinstance(found, dict) else {"default": found}
    settings = folder / "tokenizer_config.json"
    if "default" not in named and settings.is_file():
        configured = json.loads(settings.read_text(encoding="utf-8")).get("chat_template")
        named["default"] = configured if isinstance(configured, str) else None
    for name, source in named.items():
        if source is not None and not isinstance(source, str):
            raise ModelUnusableError(
                f"the chat template '{name}' in tokenizer_config.json is not a text",
                hint="fetch the model's files again",
            )
    return {name: source for name, source in named.items() if source}


def piece_bytes(piece: str, decoders: Sequence[dict[str, Any]]) -> bytes:
    """The bytes of a vocabulary entry, given the decoders of its `tokenizer.json` in their order."""
    for step in decoders:
        match step:
            case {"type": "ByteLevel"}:
                alphabet = _byte_alphabet()
                if all(character in alphabet for character in piece):
                    return bytes(alphabet[character] for character in piece)
            case {"type": "Metaspace", "replacement": str(space)}:
                piece = piece.replace(space, " ")
            case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)}:
                piece = piece.replace(old, new)
            case {"type": "ByteFallback"} if code := re.fullmatch("<0x([0-9A-F]{2})>", piece):
                return bytes([int(code[1], 16)])
            case {"type": "BPEDecoder", "suffix": str(suffix)}:
                piece = piece.replace(suffix, " ")
    return piece.encode()


@functools.cache
def _byte_alphabet() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones stand for themselves, the others for 256 and up in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
