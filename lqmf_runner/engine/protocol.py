"""The messages between the front process and a worker, and their frames.

A frame is a little-endian 32-bit length and that many bytes of MessagePack: a list of commands to the worker, or a list
of events from it. All events of one step are in one frame.
"""

from __future__ import annotations

import struct
import traceback
from typing import Any

import msgspec

from ..errors import EngineError, LqmfError, error_types
from ..types import Chunk, GenerationRequest, ModelInfo, ModelSpec, PromptCacheUse, Window

HEADER = struct.Struct("<I")

STEP_HANGS = 124
"""The exit code of a worker whose step took longer than `backend.step_timeout_s`."""


class Load(msgspec.Struct, frozen=True, tag=True):
    """Load this model; the first command, once."""

    spec: ModelSpec


class Generate(msgspec.Struct, frozen=True, tag=True):
    """Answer a request with `Delta` events until one has a finish reason; with at most two if `whole` is set."""

    id: int
    request: GenerationRequest
    whole: bool = False


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Request `id` has no reader any more."""

    id: int


class ScoreTokens(msgspec.Struct, frozen=True, tag=True):
    """Answered with a `Reply` that holds a `Score`, with `top` alternatives at each position."""

    id: int
    tokens: list[int] | str
    top: int = 0


class ScoreWindow(msgspec.Struct, frozen=True, tag=True):
    """Answered with a `Reply` that holds a `WindowScore`."""

    id: int
    window: Window


class PrepareOptions(msgspec.Struct, frozen=True, tag=True):
    """Answered with a `Reply` that holds `PreparedOptions`: tokens of a prompt, and of options with their forms."""

    id: int
    request: GenerationRequest
    options: list[list[str]]


class NextTokens(msgspec.Struct, frozen=True, tag=True):
    """Answered with a `Reply` that holds `NextTokenLogprobs` of the candidates after the tokens."""

    id: int
    tokens: list[int]
    candidates: list[int]


class Tokenize(msgspec.Struct, frozen=True, tag=True):
    """Answered with a `Reply` that holds token ids."""

    id: int
    text: str
    special: bool


class Detokenize(msgspec.Struct, frozen=True, tag=True):
    """Answered with a `Reply` that holds text."""

    id: int
    tokens: list[int]


class Embed(msgspec.Struct, frozen=True, tag=True):
    """Answered with a `Reply` that holds `Embeddings` of texts, or of their tokens."""

    id: int
    inputs: list[str | list[int]]


class GetStats(msgspec.Struct, frozen=True, tag=True):
    """Answered with a `Reply` that holds `EngineStats`."""

    id: int


class ResetPrefixCache(msgspec.Struct, frozen=True, tag=True):
    """Answered with a `Reply` that holds True, once no idle slot and no main memory holds a prompt."""

    id: int


class Ping(msgspec.Struct, frozen=True, tag=True):
    """Answered at once with a `Pong`, even while a step or a load runs."""


class ShrinkPromptCache(msgspec.Struct, frozen=True, tag=True):
    """Drop prompts from main memory until they take at most so many bytes; `PromptCacheChanged` says what is left."""

    n_bytes: int


Command = (
    Load
    | Generate
    | Cancel
    | ScoreTokens
    | ScoreWindow
    | PrepareOptions
    | NextTokens
    | Tokenize
    | Detokenize
    | Embed
    | GetStats
    | ResetPrefixCache
    | Ping
    | ShrinkPromptCache
)


class Loading(msgspec.Struct, frozen=True, tag=True):
    """Share of the load that is done, 0 to 1."""

    fraction: float


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """The model is ready."""

    info: ModelInfo


class Delta(msgspec.Struct, frozen=True, tag=True):
    """A piece of the answer to request `id`."""

    id: int
    chunk: Chunk


class Reply(msgspec.Struct, frozen=True, tag=True):
    """The one answer to a command other than `Generate`."""

    id: int
    value: Any


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Request `id` failed, or the load where `id` is None."""

    id: int | None
    kind: str
    message: str
    hint: str


class Pong(msgspec.Struct, frozen=True, tag=True):
    """The worker is alive."""


class PromptCacheChanged(msgspec.Struct, frozen=True, tag=True):
    """The new use of the cache of prompts in main memory."""

    use: PromptCacheUse


Event = Loading | Loaded | Delta | Reply | Failed | Pong | PromptCacheChanged

encoder = msgspec.msgpack.Encoder()
command_decoder = msgspec.msgpack.Decoder(list[Command])
event_decoder = msgspec.msgpack.Decoder(list[Event])


def frame(items: list[Any]) -> bytes:
    """One frame, ready to be sent."""
    body = encoder.encode(items)
    return HEADER.pack(len(body)) + body


def failure(request_id: int | None, error: BaseException) -> Failed:
    """An error as an event. Anything that is not ours becomes an `EngineError` that names its type, and its traceback
    goes to the worker's own output; memory that ran out becomes a `DoesNotFitError`."""
    if isinstance(error, LqmfError):
        return Failed(request_id, type(error).__name__, error.message, error.hint)
    traceback.print_exception(error)
    if _memory_ran_out(error):
        return Failed(
            request_id,
            "DoesNotFitError",
            "memory ran out while the model worked on this request",
            "send fewer or shorter requests at a time, or lower backend.n_batch, backend.max_slots or backend.n_ctx",
        )
    return Failed(
        request_id,
        "EngineError",
        f"{type(error).__name__}: {error}",
        "LQMF_DEBUG=1 shows the worker's own output, with the traceback",
    )


def _memory_ran_out(error: BaseException) -> bool:
    """Whether an allocation failed. Native code reports it as a RuntimeError with its own message."""
    text = str(error).lower()
    words = ("allocate memory", "bad_alloc", "out of memory")
    return isinstance(error, MemoryError) or any(word in text for word in words)


def error_from(event: Failed) -> LqmfError:
    """The error as an exception in this process."""
    return error_types().get(event.kind, EngineError)(event.message, hint=event.hint)
