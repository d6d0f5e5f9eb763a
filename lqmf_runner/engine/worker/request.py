"""What the scheduler works on: a request generates tokens or scores those it has."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ...types import Chunk, SamplingParams
from .sampling import Sampler
from .sinks import RowSink
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
