"""The events of OpenAI's streams. The part that is the same in all events of a stream is encoded once."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any

from ..types import Chunk, Usage
from .answers import new_id, usage_counts
from .errors import error_body, public_error
from .sse import DONE, encode_json, event


class ChoiceEvents(ABC):
    """Turns the chunks of answers into events.

    Attributes:
        opening, closing: what stands around the encoded text in a choice, e.g. `"delta":{"content":` and `}`.
    """

    kind: str
    id_prefix: str
    opening: bytes
    closing: bytes

    def __init__(
        self, *, model: str, n: int, include_usage: bool, logprobs: bool, fingerprint: str | None = None
    ) -> None:
        self._include_usage = include_usage
        self._logprobs = logprobs
        self._begun: set[int] = set()
        self._head: dict[str, Any] = {
            "id": new_id(self.id_prefix),
            "object": self.kind,
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": fingerprint,
        }
        head = encode_json(self._head)[:-1]
        usage = b',"usage":null' if include_usage else b""
        self._prefixes = [
            b"data: " + head + usage + b',"choices":[{"index":%d,' % index for index in range(n)
        ]
        self._text_prefixes = [prefix + self.opening for prefix in self._prefixes]
        self._text_suffix = self.closing + b',"logprobs":null,"finish_reason":null}]}\n\n'

    def chunks(self, index: int, chunks: list[Chunk]) -> bytes:
        """The events for some chunks of answer `index`, one after the other."""
        out: list[bytes] = []
        if index not in self._begun:
            self._begun.add(index)
            out += self.begin(index)
        for chunk in chunks:
            if chunk.reasoning:
                out += self.reasoning(index, chunk.reasoning)
            if chunk.text or (self._logprobs and chunk.logprobs):
                out += self.text(index, chunk)
            if chunk.finish_reason is not None:
                out += self.finish(index, chunk.finish_reason)
        return b"".join(out)

    def begin(self, index: int) -> list[bytes]:
        """What comes before the first text of an answer."""
        return []

    def reasoning(self, index: int, thoughts: str) -> list[bytes]:
        """A piece of an endpoint's thoughts. Only chats have a place for them."""
        return []

    def text(self, index: int, chunk: Chunk) -> list[bytes]:
        """A piece of an answer."""
        if self._logprobs and chunk.logprobs:
            delta = self.opening + encode_json(chunk.text) + self.closing
            return [self.event(index, delta, logprobs=encode_json(self.logprobs(index, chunk)))]
        return [self._text_prefixes[index], encode_json(chunk.text), self._text_suffix]

    @abstractmethod
    def finish(self, index: int, reason: str) -> list[bytes]:
        """The last event of an answer."""

    @abstractmethod
    def logprobs(self, index: int, chunk: Chunk) -> Any:
        """The log-probabilities of a chunk's tokens."""

    def end(self, usage: Usage) -> bytes:
        """The counts if asked for, and the end."""
        if not self._include_usage:
            return DONE
        return event({**self._head, "choices": [], "usage": usage_counts(usage)}) + DONE

    def failed(self, error: Exception) -> bytes:
        """An error within the stream."""
        return event(error_body(public_error(error)))

    def event(self, index: int, delta: bytes, *, logprobs: bytes = b"null", finish: bytes = b"null") -> bytes:
        """An event with everything that can be in it."""
        return b"".join(
            (
                self._prefixes[index],
                delta,
                b',"logprobs":',
                logprobs,
                b',"finish_reason":',
                finish,
                b"}]}\n\n",
            )
        )
