"""What a router knows of a prompt without its tokens: the hashes of its blocks, and about how many tokens it has.

A block's hash covers all before it, so that prompts with the same n-th hash begin with the same n blocks. Routers
that do not tokenize do the same ("approximate prefix cache" in kubernetes-sigs/gateway-api-inference-extension).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import msgspec

from ...types import GenerationRequest

BLOCK_TOKENS = 16
BYTES_PER_TOKEN = 4
"""Of text, for estimates. All replicas are compared with the same estimate, so that it need not be right."""
USUAL_OUTPUT = 256
"""Tokens that are expected of an answer without a limit."""
_MOST_TOKENS = 65_536  # the beginning of a longer prompt decides

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as the router sees it.

    Attributes:
        blocks: chained hashes of its whole blocks of `BLOCK_TOKENS`.
        tokens: of the prompt, estimated.
        output_tokens: that are asked for.
    """

    blocks: tuple[int, ...]
    tokens: int
    output_tokens: int


def describe(request: GenerationRequest) -> Prompt:
    """The request as the router sees it."""
    output = request.sampling.max_tokens or USUAL_OUTPUT
    if request.prompt_tokens is not None:
        ids = request.prompt_tokens
        return Prompt(_chain(ids, BLOCK_TOKENS), len(ids), output)
    text = _text(request)
    return Prompt(_chain(text, BLOCK_TOKENS * BYTES_PER_TOKEN), len(text) // BYTES_PER_TOKEN, output)


def _text(request: GenerationRequest) -> bytes:
    """All that the prompt is made of. That of a conversation begins with that of its earlier turns."""
    try:
        if request.prompt is not None:
            return request.prompt.encode()
        return _encoder.encode((request.tools, request.messages))
    except (UnicodeEncodeError, TypeError):  # the engine says what is wrong with it
        return b""


def _chain(items: bytes | tuple[int, ...], size: int) -> tuple[int, ...]:
    whole = min(len(items) // size, _MOST_TOKENS // BLOCK_TOKENS) * size
    return tuple(_chained(items[at : at + size] for at in range(0, whole, size)))


def _chained(blocks: Iterable[Hashable]) -> Iterable[int]:
    before = 0
    for block in blocks:
        before = hash((before, block))
        yield before
