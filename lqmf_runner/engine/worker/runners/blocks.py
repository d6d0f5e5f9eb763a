"""Cuts a long text before special tokens, so that llama.cpp tokenizes it in time that grows with its length alone.

llama.cpp splits a text at every special token, and for each piece it looks for each special token up to the end of the
whole text. That takes time with the square of their number: 0.2 MB of empty chat turns took 16 s, the 10 MB that a
request may have would take hours. Each piece is tokenized by itself, so that cutting where a special token begins
changes no token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

BLOCK_BYTES = 2048
_LONGEST = 64  # bytes; longer special tokens are not cut at


class BlockCutter:
    """Cuts texts into blocks of about `size` bytes, or more where no special token begins.

    Args:
        marks: the special tokens.
    """

    def __init__(self, marks: Iterable[bytes], size: int = BLOCK_BYTES) -> None:
        self._size = size
        words = sorted({mark for mark in marks if 0 < len(mark) <= _LONGEST})
        # Not within a run of white space, which special tokens of several lengths may divide among them.
        self._mark = re.compile(rb"(?:(?<!\s)|(?!\s))(?:" + _one_of(words) + rb")") if words else None

    def blocks(self, text: bytes) -> Iterator[bytes]:
        """The text in pieces that make it up."""
        start = 0
        while self._mark is not None and (found := self._mark.search(text, start + self._size)):
            yield text[start : found.start()]
            start = found.start()
        yield text[start:]


def _one_of(words: list[bytes]) -> bytes:
    """A pattern for these words that looks at no byte twice, as thousands of words side by side would."""
    tails: dict[int, list[bytes]] = {}
    for word in words:
        if word:
            tails.setdefault(word[0], []).append(word[1:])
    options = [re.escape(bytes([head])) + _one_of(rest) for head, rest in tails.items()]
    if b"" in words:  # a shorter word is one as well, and where a match ends is of no interest
        return b""
    return options[0] if len(options) == 1 else b"(?:" + b"|".join(options) + b")"
