"""Reads tokens as items: words with their meanings, values, and names of models."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .lexicon import FILLERS, LONGEST, PHRASES, PRONOUNS, SPELLED, WORDS
from .names import Mention, NameIndex
from .spelling import correct
from .tokens import Token, megabytes, tokenize, tokens_per_second

_DAYS = {"yesterday": "1d", "today": "1d", "week": "7d", "month": "30d", "day": "1d"}
_UNITS = {"hour": "h", "hours": "h", "day": "d", "days": "d", "week": "w", "weeks": "w"}
_TIME_WORDS = frozenset({"since", "last", "past", "the", "in", "of", "from"})
_NOT_NAMES = WORDS - {"original"}


@dataclass(frozen=True)
class Item:
    """A part of a sentence.

    Attributes:
        kind: "word", "model", "port", "users", "loads" (several numbers of users), "memory", "speed" (tokens a second),
            "since", "file", "id", "message", "type", "version", "replicas", "number" or "comma".
        value: of a value; the `Mention` of a model; else the word as it was typed.
        meanings: of a word.
        start, end: which tokens it takes.
        likeness: 1, or less where its spelling was corrected.
    """

    kind: str
    value: Any
    start: int
    end: int
    meanings: frozenset[str] = frozenset()
    likeness: float = 1.0

    @property
    def is_filler(self) -> bool:
        """Whether it may be left out."""
        return self.kind == "comma" or (self.kind == "word" and self.value in FILLERS | PRONOUNS)

    @property
    def is_pronoun(self) -> bool:
        """Whether it stands for models that were named before."""
        return self.kind == "word" and self.value in PRONOUNS


def read_items(tokens: Sequence[Token], names: NameIndex, named: Collection[int] = ()) -> list[Item]:
    """All items of a sentence, from left to right.

    Args:
        named: the tokens of `named_by_commands` that are names here.
    """
    items: list[Item] = []
    at = 0
    while at < len(tokens):
        item = _name(tokens[at], at, names) if at in named else _read(tokens, at, names)
        items.append(item)
        at = item.end
    return items


def named_by_commands(tokens: Sequence[Token], names: NameIndex) -> list[int]:
    """Where words of the lexicon stand that are names of models too: of models called "chat" or "list"."""
    return [at for at, token in enumerate(tokens) if token.text in _NOT_NAMES and names.called(token.text)]


def _name(token: Token, at: int, names: NameIndex) -> Item:
    return Item(
        "model", Mention(names.called(token.text), (token.text,), at + 1, is_format=False), at, at + 1
    )


def _read(tokens: Sequence[Token], at: int, names: NameIndex) -> Item:
    token = tokens[at]
    for reader in (_period, _loads, _number, _phrase):
        item = reader(tokens, at)
        if item is not None and (reader is not _phrase or item.end - item.start > 1):
            return item
    if token.kind == "quoted":
        return Item("message", token.text, at, at + 1)
    if token.kind == "comma":
        return Item("comma", token.text, at, at + 1)
    if token.kind == "size":
        return Item("memory", megabytes(token.text), at, at + 1)
    if token.kind == "speed":
        return Item("speed", tokens_per_second(token.text), at, at + 1)
    if token.kind == "version":
        return _version_of_model(token, at, names)
    mention = names.mention(tokens, at, _NOT_NAMES)
    if mention is not None and (mention.likeness == 1.0 or not _better_word(token, mention)):
        return Item("model", mention, at, mention.end, likeness=mention.likeness)
    if token.kind in ("file", "id"):
        return Item(token.kind, token.text, at, at + 1)
    if token.kind == "bits" or _is_type(token.text):
        kind = "bits" if token.kind == "bits" else "type"
        return Item(kind, token.text, at, at + 1)
    return _phrase(tokens, at) or _corrected(token, at)


def _version_of_model(token: Token, at: int, names: NameIndex) -> Item:
    """ "qwen_gguf@2": a version is a name of a model too."""
    name, _, which = token.text.partition("@")
    words = tokenize(name)
    mention = names.mention(words, 0, frozenset()) if words else None
    if mention is None or mention.end != len(words):
        return Item("word", token.text, at, at + 1)
    candidates = tuple(f"{candidate}@{which}" for candidate in mention.candidates)
    versions = Mention(candidates, mention.words, at + 1, is_format=False, likeness=mention.likeness)
    return Item("model", versions, at, at + 1, likeness=mention.likeness)


def _better_word(token: Token, mention: Mention) -> bool:
    """Whether a misspelled word is closer to a word of the lexicon than to a name."""
    found = correct(token.text, SPELLED)
    return found is not None and found[1] > mention.likeness


def _corrected(token: Token, at: int) -> Item:
    found = correct(token.text, SPELLED) if token.kind == "word" else None
    if found is None:
        return Item("number" if token.kind == "number" else "word", token.text, at, at + 1)
    word, likeness = found
    return Item("word", word, at, at + 1, PHRASES.get((word,), frozenset()), likeness)


def _phrase(tokens: Sequence[Token], at: int) -> Item | None:
    """The longest phrase of the lexicon that begins here; typing errors in its words are corrected."""
    words = list(_spelled(tokens[at : at + LONGEST]))
    for length in range(len(words), 0, -1):
        phrase = tuple(word for word, _ in words[:length])
        if phrase in PHRASES or (length == 1 and phrase[0] in FILLERS | PRONOUNS):
            likeness = min(alike for _, alike in words[:length])
            meanings = PHRASES.get(phrase, frozenset())
            return Item("word", " ".join(phrase), at, at + length, meanings, likeness)
    return None


def _spelled(tokens: Sequence[Token]) -> Iterator[tuple[str, float]]:
    for token in tokens:
        if token.kind != "word":
            return
        if token.text in WORDS:
            yield token.text, 1.0
        elif (found := correct(token.text, SPELLED)) is not None:
            yield found
        else:
            return


def _number(tokens: Sequence[Token], at: int) -> Item | None:
    """ "port 9000", "version 2", "3 replicas", "8 users", "8 concurrent requests", "concurrency 8"."""
    texts = [token.text for token in tokens[at : at + 4]]
    kinds = [token.kind for token in tokens[at : at + 4]]
    if texts[0] == "port" and kinds[1:2] == ["number"]:
        return Item("port", int(float(texts[1])), at, at + 2)
    if (
        texts[0] == "on"
        and kinds[1:2] == ["number"]
        and texts[1].isdecimal()
        and 1024 <= int(texts[1]) < 65536
    ):
        return Item("port", int(texts[1]), at, at + 2)
    if texts[0] == "concurrency" and "number" in kinds[1:3]:
        place = kinds.index("number")
        return Item("users", int(float(texts[place])), at, at + place + 1)
    if texts[0] in ("version", "number") and kinds[1:2] == ["number"]:
        return Item("version", str(int(float(texts[1]))), at, at + 2)
    if (kinds[0] == "number" or texts[0] == "one") and len(tokens) > at + 1:
        words = _phrase(tokens, at + 1)
        if words is not None and "replicas" in words.meanings:
            return Item("replicas", 1 if texts[0] == "one" else int(float(texts[0])), at, words.end)
        if words is not None and kinds[0] == "number" and "users" in words.meanings:
            following = _phrase(tokens, words.end) if words.end < len(tokens) else None
            end = following.end if following and "users" in following.meanings else words.end
            end = end + 1 if end < len(tokens) and tokens[end].text == "requests" else end
            return Item("users", int(float(texts[0])), at, end)
    return None


def _loads(tokens: Sequence[Token], at: int) -> Item | None:
    """ "1, 4 and 8 users", "concurrency 1, 4 and 8"."""
    named = tokens[at].text == "concurrency"
    begin = at + named + (named and [token.text for token in tokens[at + 1 : at + 2]] == ["of"])
    numbers = [begin] if [token.kind for token in tokens[begin : begin + 1]] == ["number"] else []
    for here in range(begin + 1, len(tokens)):
        if tokens[here].kind == "number":
            numbers.append(here)
        elif tokens[here].kind != "comma" and tokens[here].text not in ("and", "or"):
            break
    if len(numbers) < 2 or numbers[0] != begin:
        return None
    values, last = [int(float(tokens[place].text)) for place in numbers], numbers[-1]
    if named:
        return Item("loads", values, at, last + 1)
    users = _number(tokens, last)
    return Item("loads", values, at, users.end) if users is not None and users.kind == "users" else None


def _period(tokens: Sequence[Token], at: int) -> Item | None:
    """ "since yesterday", "since last week", "the last 7 days"."""
    end = at
    if tokens[at].text == "yesterday":
        return Item("since", "1d", at, at + 1)
    words = []
    while end < len(tokens) and end - at < 5 and tokens[end].text in _TIME_WORDS:
        words.append(tokens[end].text)
        end += 1
    if not words or end >= len(tokens) or not {"since", "last", "past"} & set(words):
        return None
    number, unit = tokens[end], tokens[end + 1].text if end + 1 < len(tokens) else ""
    if number.kind == "number" and unit in _UNITS:
        return Item("since", f"{int(float(number.text))}{_UNITS[unit]}", at, end + 2)
    if number.text in _DAYS:
        return Item("since", _DAYS[number.text], at, end + 1)
    return None


def _is_type(text: str) -> bool:
    return re.fullmatch(r"(?:i?q[1-8](?:_\w+)?|mxfp4|bf16|f16|f32)", text, re.IGNORECASE) is not None
