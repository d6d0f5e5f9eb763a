"""What the scheduler works on: a request generates tokens or scores those it has."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ...types import Chunk, SamplingParams, Usage
from .runners.base import Span
from .sampling import Sampler
from .sinks import RowSink
from .slots import Slot
from .speculation import NgramDrafter
from .text import AnswerText


@dataclass(slots=True, eq=False)
class _TokenSequence:
    """What both kinds have.

    Attributes:
        tokens: of the prompt; an answer's are appended.
        n_prompt: how many of them are the prompt's.
        arrived: `time.perf_counter()` seconds.
    """

    id: int
    tokens: list[int]
    n_prompt: int = field(init=False)
    arrived: float = field(init=False, default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.n_prompt = len(self.tokens)


@dataclass(slots=True, eq=False)
class Generating(_TokenSequence):
    """A prompt and the answer to it as it grows. Times are `time.perf_counter()` seconds.

    Attributes:
        max_tokens: of the answer; with the prompt they fit into the context.
        whole: only the complete answer is wanted. All its chunks but the first are held until then.
        held: those chunks.
    """

    max_tokens: int
    sampling: SamplingParams
    sampler: Sampler
    answer: AnswerText
    whole: bool = False
    held: list[Chunk] = field(init=False, default_factory=list)
    first_token: float = field(init=False, default=0.0)
    last_token: float = field(init=False, default=0.0)

    @property
    def n_generated(self) -> int:
        return len(self.tokens) - self.n_prompt


@dataclass(slots=True, eq=False)
class Scoring(_TokenSequence):
    """Tokens whose rows of logits go to a sink; none are generated."""

    sink: RowSink


Request = Generating | Scoring


@dataclass(slots=True, eq=False)
class Running:
    """A request in its slot.

    Attributes:
        n_computed: how many of its tokens the slot's KV cache holds.
        n_cached: how many of them were there when it started.
        drafter: proposes its next tokens.
        started: `time.perf_counter()` seconds.
    """

    request: Request
    slot: Slot
    n_computed: int
    n_cached: int
    drafter: NgramDrafter = field(default_factory=NgramDrafter)
    started: float = field(default_factory=time.perf_counter)

    @property
    def decoding(self) -> bool:
        return self.n_computed >= self.request.n_prompt


def next_span(running: Running, n: int) -> Span:
    """The next `n` tokens of a request, with the rows of logits that it needs of them."""
    request, start = running.request, running.n_computed
    end = start + n
    if isinstance(request, Scoring):
        n_rows = min(n, max(end - request.sink.first_row, 0))
    else:
        n_rows = int(end == len(request.tokens))
    return Span(running.slot.index, request.tokens[start:end], start, n_rows)


def decode_span(running: Running, room: int) -> Span:
    """The last token of an answer, with a draft of at most `room` tokens behind it."""
    request, start = running.request, running.n_computed
    if not room or not isinstance(request, Generating):
        return next_span(running, 1)
    left = request.max_tokens - request.n_generated - 1  # the step gives one token anyway
    draft = running.drafter.propose(request.tokens, min(room, left))
    return Span(running.slot.index, [*request.tokens[start:], *draft], start, 1 + len(draft))


def usage_of(running: Running, request: Generating) -> Usage:
    """Counts and times of a request whose last token was just chosen."""
    return Usage(
        prompt_tokens=request.n_prompt,
        cached_tokens=running.n_cached,
        completion_tokens=request.n_generated,
        drafted_tokens=running.drafter.drafted,
        accepted_tokens=running.drafter.accepted,
        queue_s=running.started - request.arrived,
        prefill_s=request.first_token - running.started,
        decode_s=request.last_token - request.first_token,
    )
