"""The scheduler's unit of work: a request that generates tokens, or scores given ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...types import Chunk, SamplingParams, Usage
from ..thoughts import ThoughtReader
from .cache.slots import Slot
from .runners.base import Span
from .sampling import Sampler
from .sinks import RowSink
from .speculation.draft_model import ModelDrafter
from .speculation.ngrams import NgramDrafter
from .text import AnswerText


@dataclass(slots=True, eq=False)
class _TokenSequence:
    """The common part of both kinds.

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
        thoughts: tells thoughts from the answer's text; None where it stays as it is.
        held: those chunks.
    """

    max_tokens: int
    sampling: SamplingParams
    sampler: Sampler
    answer: AnswerText
    whole: bool = False
    thoughts: ThoughtReader | None = None
    held: list[Chunk] = field(init=False, default_factory=list)
    first_token: float = field(init=False, default=0.0)
    last_token: float = field(init=False, default=0.0)

    @property
    def n_generated(self) -> int:
        return len(self.tokens) - self.n_prompt

    def divided(self, text: str, *, last: bool) -> tuple[str, str]:
        """A piece of the answer as thoughts and text."""
        return self.thoughts.read(text, last=last) if self.thoughts else ("", text)


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
        ngrams: drafts from its own tokens.
        model_drafter: what the draft model has of it; None without one.
        drafter: whose draft the present step verifies.
        started: `time.perf_counter()` seconds.
    """

    request: Request
    slot: Slot
    n_computed: int
    n_cached: int
    ngrams: NgramDrafter
    model_drafter: ModelDrafter | None
    drafter: NgramDrafter | ModelDrafter = field(init=False)
    started: float = field(init=False, default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.drafter = self.ngrams

    @property
    def decoding(self) -> bool:
        return self.n_computed >= self.request.n_prompt


Work = tuple[Running, Span]


def next_span(running: Running, n: int) -> Span:
    """The next `n` tokens of a request, with the rows of logits that it needs of them."""
    request, start = running.request, running.n_computed
    end = start + n
    if isinstance(request, Scoring):
        n_rows = min(n, max(end - request.sink.first_row, 0))
    else:
        n_rows = int(end == len(request.tokens))
    return Span(running.slot.index, request.tokens[start:end], start, n_rows)


def chunk_size(left: int, most: int, least: int = 2) -> int:
    """How many of the `left` tokens of a prompt to compute now: at most `most`, and none if that is too few.

    Never fewer than `least` of more, and never so many that fewer than `least` remain: see `ModelRunner`.
    """
    n = min(left, most)
    if 0 < left - n < least:
        n = left - least
    return n if n >= min(least, left) else 0


def decode_span(running: Running, draft: Sequence[int]) -> Span:
    """The last token of an answer, with a draft of the tokens after it."""
    start = running.n_computed
    return Span(running.slot.index, [*running.request.tokens[start:], *draft], start, 1 + len(draft))


def without_drafts(plan: Sequence[Work]) -> list[Work]:
    """The same work, of which decode tokens have no drafts."""
    return [(r, next_span(r, 1) if r.decoding else span) for r, span in plan]


def usage_of(running: Running, request: Generating) -> Usage:
    """Counts and times of a request whose last token was just chosen."""
    drafters = [d for d in (running.ngrams, running.model_drafter) if d is not None]
    return Usage(
        prompt_tokens=request.n_prompt,
        cached_tokens=running.n_cached,
        completion_tokens=request.n_generated,
        drafted_tokens=sum(drafter.drafted for drafter in drafters),
        accepted_tokens=sum(drafter.accepted for drafter in drafters),
        draft_model_drafted_tokens=running.model_drafter.drafted if running.model_drafter else 0,
        draft_model_accepted_tokens=running.model_drafter.accepted if running.model_drafter else 0,
        queue_s=running.started - request.arrived,
        prefill_s=request.first_token - running.started,
        decode_s=request.last_token - request.first_token,
    )


def can_share(request: Request) -> bool:
    """Whether it may take cached tokens of other requests, and they its own."""
    return request.sink.can_share if isinstance(request, Scoring) else True


def may_go_on(request: Request) -> bool:
    """Whether its answer may have more than one token."""
    return isinstance(request, Generating) and request.max_tokens > 1


def parts_of(plan: list[Work], *, mixes_prompts: bool) -> list[list[Work]]:
    """What runs in one call of the runner: the whole plan, or first the decode tokens and then the prompts.

    Decode tokens are then sent before the prompts are computed. First tokens are sent together, since the second
    token of each comes only after all prompts of the step. An answer of one token is computed and sent by itself.

    Args:
        plan: of a step, decode tokens first.
        mixes_prompts: of the runner.
    """
    if mixes_prompts:
        return [plan] if plan else []
    decoding = [work for work in plan if work[0].decoding]
    prompts = plan[len(decoding) :]
    together = [work for work in prompts if may_go_on(work[0].request)]
    alone = [[work] for work in prompts if work not in together]
    return [part for part in (decoding, *alone, together) if part]
