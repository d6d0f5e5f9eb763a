"""From tokens to text that can be sent. Stop strings that span several tokens are found before any part of them is
sent.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Protocol


class Detokenizer(Protocol):
    """Turns a stream of tokens into text without ever splitting a character."""

    def add(self, token: int) -> str:
        """The text that is complete with this token (often the token's own text, sometimes none)."""

    def finish(self) -> str:
        """The rest of an incomplete character, as U+FFFD."""


class BytesDetokenizer:
    """A detokenizer for vocabularies whose tokens are byte strings."""

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> str:
        return self._decoder.decode(self._token_bytes(token))

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


class AnswerText:
    """The text of one answer as it grows, cut at the first stop string."""

    def __init__(self, detokenizer: Detokenizer, stop: tuple[str, ...]) -> None:
        self._detokenizer = detokenizer
        self._stop = tuple(s for s in stop if s)
        self._held = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """Text that can be sent now. Sets `stopped` once a stop string is complete."""
        return self._release(self._detokenizer.add(token), final=False)

    def finish(self) -> str:
        """The rest of the text, after the last token."""
        return "" if self.stopped else self._release(self._detokenizer.finish(), final=True)

    def _release(self, text: str, *, final: bool) -> str:
        if not self._stop:
            return text
        self._held += text
        found = [at for at in (self._held.find(s) for s in self._stop) if at >= 0]
        if found:
            self.stopped = True
            ready, self._held = self._held[: min(found)], ""
            return ready
        keep = 0 if final else self._possible_stop()
        cut = len(self._held) - keep
        ready, self._held = self._held[:cut], self._held[cut:]
        return ready

    def _possible_stop(self) -> int:
        """Length of the longest suffix of the held text that is a prefix of a stop string."""
        longest = max(len(s) for s in self._stop) - 1
        for n in range(min(longest, len(self._held)), 0, -1):
            if any(s.startswith(self._held[-n:]) for s in self._stop):
                return n
        return 0
