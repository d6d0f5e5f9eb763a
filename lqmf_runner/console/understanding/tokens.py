"""Cuts a sentence into words. Quoted texts, files and hub ids stay whole."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<quoted> "[^"]*" | “[^”]*” | (?<!\w)'[^']*'(?!\w) )
  | (?P<file>   [\w.~/-]*[\w]\.(?:csv|tsv|jsonl|json|txt|xlsx|ya?ml)\b )
  | (?P<speed>  \d+(?:\.\d+)? \s?
                (?: tok(?:en)?s? \s? (?: / | (?:per|an?|each|every)\b ) \s? s(?:ec(?:ond)?)? | t/s | tps ) \b )
  | (?P<id>     (?:https?://(?:hf\.co|huggingface\.co)/)? [\w-]+/[\w.-]*\w (?: :[\w.-]*\w )? )
  | (?P<version> [\w.-]+@[\w-]*\w )
  | (?P<bits>   \d+ [\s-]? bits? \b )
  | (?P<size>   \d+(?:\.\d+)? \s? (?:gb|gib|mb|mib|gigabytes?|megabytes?|gigs?) \b )
  | (?P<number> \d+(?:\.\d+)? (?![\w.]*\w) )
  | (?P<word>   \w+(?:[.'’]\w+)* )
  | (?P<comma>  [,;] )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_CONTRACTIONS = {
    "i'm": "i am", "i'd": "i would", "i'll": "i will", "i've": "i have", "let's": "let us", "what's": "what is",
    "that's": "that is", "it's": "it is", "how's": "how is", "where's": "where is", "who's": "who is",
    "there's": "there is", "which's": "which is", "we're": "we are", "you're": "you are", "can't": "can not",
    "won't": "will not", "whats": "what is", "hows": "how is", "im": "i am", "dont": "do not", "thats": "that is",
    "wanna": "want to", "gonna": "going to", "gimme": "give me", "lemme": "let me", "pls": "please", "plz": "please",
    "teh": "the", "hte": "the", "adn": "and", "nad": "and",
}  # fmt: skip


_NUMBERS = {
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "eight": "8", "ten": "10", "twelve": "12",
    "sixteen": "16", "twenty": "20", "thirty": "30", "fifty": "50", "hundred": "100",
}  # fmt: skip


@dataclass(frozen=True)
class Token:
    """A word in lower case, or a value.

    Attributes:
        kind: "word", "quoted", "file", "id", "version" (`model@2`), "bits", "size", "speed" ("20 tok/s"),
            "number" or "comma".
        text: the word; of a quoted text what is in the quotes; of bits "4bit"; else as it is typed.
        start, end: where it stands in the sentence.
    """

    kind: str
    text: str
    start: int
    end: int


def tokenize(sentence: str) -> list[Token]:
    """The words and values of a sentence; other signs are left out."""
    tokens = []
    for found in _TOKEN.finditer(sentence):
        kind, text = str(found.lastgroup), found.group()
        start, end = found.span()
        if kind == "word":
            number = _NUMBERS.get(text.lower())
            words = [Token("word", word, start, end) for word in _words(text)]
            tokens += words if number is None else [Token("number", number, start, end)]
        elif kind == "quoted":
            tokens.append(Token(kind, text[1:-1], start, end))
        elif kind == "bits":
            tokens.append(Token(kind, re.sub(r"\D", "", text) + "bit", start, end))
        elif text.lower() == "a/b":  # a test of two versions, and no hub id
            tokens.append(Token("word", "split", start, end))
        else:
            tokens.append(Token(kind, text, start, end))
    return tokens


def megabytes(size: str) -> int:
    """What "2 GB" or "500mb" is in MiB, as the program's limits count."""
    number = float(re.sub(r"[^\d.]", "", size))
    return round(number * (1024 if "g" in size.lower() else 1))


def tokens_per_second(speed: str) -> float:
    """The number in "20 tokens a second" or "12.5 tok/s"."""
    return float(re.match(r"[\d.]+", speed)[0])  # type: ignore[index]


def _words(text: str) -> list[str]:
    word = text.lower().replace("’", "'")
    if word in _CONTRACTIONS:
        return _CONTRACTIONS[word].split()
    if word.endswith("n't"):
        return [word[:-3], "not"]
    return [word.removesuffix("'s").replace("'", "")]
