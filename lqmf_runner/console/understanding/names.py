"""Which model a few words mean: "qwen 8 bit", "the gguf version of smollm2", "mistal"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .spelling import correct
from .tokens import Token

_FORMATS: dict[str, tuple[str, ...]] = {
    "bnb": ("bitsandbytes",), "nf4": ("4bit",), "int8": ("8bit",), "gguf": (), "gptq": (), "awq": (),
    "bf16": ("bfloat16", "unquantized", "original", "16bit"), "f16": ("fp16", "16bit"), "f32": ("fp32", "32bit"),
}  # fmt: skip
_BITS = {"4": ("4bit", "nf4"), "8": ("8bit", "int8"), "2": ("2bit",), "3": ("3bit",)}
_WITH_BITS = frozenset(["bnb", "gptq"])
_GGUF_TYPE = re.compile(r"i?q[1-8](?:_\w+)*")
_LINKS = frozenset(["version", "model", "variant", "in", "of", "with", "the", "one", "build"])
_PREFIX = 4
_EXACT = re.compile(r"i?q[1-8](?:_\w+)*|\d+")
"""What is no typing error in a name: another number or GGUF type names another model."""


@dataclass(frozen=True)
class Mention:
    """Words that name a model.

    Attributes:
        candidates: the names that it may mean, at least one.
        words: as the index knows them.
        end: the index of the first token behind it.
        is_format: only a format or a number of bits is said, and no name.
        likeness: 1, or less where spelling was corrected.
    """

    candidates: tuple[str, ...]
    words: tuple[str, ...]
    end: int
    is_format: bool
    likeness: float = 1.0


class NameIndex:
    """Finds the names of models in a sentence. A part of a name is enough where it can mean only one."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(dict.fromkeys(names))
        self._spoken = {name: _spoken(name) for name in self.names}
        self._words = frozenset(word for words in self._spoken.values() for word in words)
        self._long_words = tuple(sorted(word for word in self._words if len(word) >= _PREFIX))

    def called(self, word: str) -> tuple[str, ...]:
        """The name that is this whole word; nothing if none is."""
        return tuple(name for name in self.names if _plain(name) == word)[:1]

    def mention(self, tokens: Sequence[Token], start: int, known: frozenset[str]) -> Mention | None:
        """The model that is named from this token on; None if none is.

        Args:
            known: other words that mean something, which are no misspelled names.
        """
        candidates: tuple[str, ...] = self.names
        words: list[str] = []
        end, at, likeness = start, start, 1.0
        unlinked: Mention | None = None
        while at < len(tokens):
            if words and tokens[at].text in _LINKS:
                if unlinked is None and all(map(is_format, words)):
                    unlinked = self._mention(candidates, words, end, likeness)
                at += 1
                continue
            found = self._read(tokens, at, known)
            if found is None:
                break
            word, used, alike = found
            left = tuple(name for name in candidates if word in self._spoken[name])
            if not left:
                if unlinked is not None and at == end:
                    return unlinked  # "a 4 bit version of smollm2 bf16" names two things
                break
            candidates, likeness = left, min(likeness, alike)
            words.append(word)
            end = at = at + used
        return self._mention(candidates, words, end, likeness) if words else None

    def _mention(self, names: tuple[str, ...], words: Sequence[str], end: int, likeness: float) -> Mention:
        return Mention(self._closest(names, words), tuple(words), end, all(map(is_format, words)), likeness)

    def narrowed(self, words: Iterable[str]) -> tuple[str, ...]:
        """The names that all these words fit."""
        wanted = list(words)
        fitting = [name for name in self.names if all(word in self._spoken[name] for word in wanted)]
        return self._closest(tuple(fitting), wanted)

    def _read(self, tokens: Sequence[Token], at: int, known: frozenset[str]) -> tuple[str, int, float] | None:
        """The word of a name at a token, how many tokens it takes, and how alike it is."""
        token = tokens[at]
        if token.kind not in ("word", "bits", "id", "file"):
            return None
        text = _plain(token.text)
        if at + 1 < len(tokens) and tokens[at + 1].kind in ("number", "word"):
            joined = text + _plain(tokens[at + 1].text)
            if joined in self._words and joined not in known:
                return joined, 2, 1.0
        if text in self._words and text not in known:
            return text, 1, 1.0
        if text in known or token.kind != "word" or len(text) < 3:
            return None
        begun = [word for word in self._long_words if word.startswith(text)] if len(text) >= _PREFIX else []
        if begun:
            return min(begun, key=len), 1, 0.9
        alike = [word for word in self._long_words if _EXACT.findall(word) == _EXACT.findall(text)]
        corrected = correct(text, alike)
        return (corrected[0], 1, corrected[1]) if corrected else None

    def _closest(self, candidates: tuple[str, ...], words: Sequence[str]) -> tuple[str, ...]:
        """The one whose whole name is said, else all; of names for the same the first."""
        exact = [name for name in candidates if _plain(name) in words]
        exact = exact or [name for name in candidates if set(_parts(name)) <= set(words)]
        if exact:
            return (exact[0],)
        different: dict[str, str] = {}
        for name in candidates:
            different.setdefault(_same(name), name)
        return tuple(different.values())


def is_format(word: str) -> bool:
    """Whether a word of a name says its format or bits, and not which model it is."""
    return word in _FORMAT_WORDS or _GGUF_TYPE.fullmatch(word) is not None


def _plain(text: str) -> str:
    return re.sub(r"[.\-]", "", text.lower())


def _parts(name: str) -> list[str]:
    return [_plain(part) for part in re.split(r"[_\s/-]+", name) if part]


def _same(name: str) -> str:
    """What is equal of names that differ in signs only: `m_bnb4`, `m_bnb_4bit`, `M-bnb-4bit`."""
    return re.sub(r"[^a-z0-9]", "", name.lower()).replace("bit", "")


def _spoken(name: str) -> frozenset[str]:
    """The words with which people name it."""
    parts = _parts(name)
    words = {_plain(name), *parts}
    text = _plain(re.sub(r"[\s/-]+", "_", name))
    if found := re.search(r"(?:^|_)(i?q[1-8](?:_(?:\d|[kmslx]+|nl))*)(?:_|$)", text):
        words |= {found[1], found[1].replace("_", ""), f"{re.sub(r'[^0-9]', '', found[1])[:1]}bit"}
    for part in parts:
        letters = re.match(r"[a-z]+", part)
        stem = letters[0] if letters else ""
        if len(stem) > 2 or stem in _FORMATS:
            words.add(stem)
        if part in _FORMATS or stem in _FORMATS:
            words |= {part, *_FORMATS.get(part, ()), *_FORMATS.get(stem, ())}
            words |= set(_BITS.get(part.removeprefix(stem), ()) if stem in _WITH_BITS else ())
    if not any(part.startswith("bnb") for part in parts):
        words -= {"nf4", "int8"} - set(parts)
    return frozenset(word for word in words if len(word) > 1) | {_plain(name)}


_FORMAT_WORDS = frozenset(
    {*_FORMATS, *(word for words in _FORMATS.values() for word in words)}
    | {f"{base}{bits}" for base in ("bnb", "gptq", "awq") for bits in (2, 3, 4, 8)}
    | {f"{bits}bit" for bits in (2, 3, 4, 5, 6, 8)}
)
