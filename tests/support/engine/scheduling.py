"""A scheduler on a runner whose every step is written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lqmf_runner.engine.protocol import Delta, Failed, PromptCacheChanged, Reply
from lqmf_runner.engine.worker.request import Generating, Scoring
from lqmf_runner.engine.worker.runners.base import ModelRunner, Span, Tokenizer
from lqmf_runner.engine.worker.sampling import Sampler
from lqmf_runner.engine.worker.scheduler import Scheduler, SchedulerLimits
from lqmf_runner.engine.worker.sinks import ScoreSink
from lqmf_runner.engine.worker.text import AnswerText, BytesDetokenizer
from lqmf_runner.errors import DoesNotFitError
from lqmf_runner.types import Chunk, ModelInfo, SamplingParams, joined

N_VOCAB, EOS = 1000, 999


class ScriptedTokenizer(Tokenizer):
    """Token i is the letter i mod 26."""

    eos_ids, add_bos, bos_id, chat_templates, special_tokens = frozenset({EOS}), False, None, {}, {}

    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        return [ord(c) - ord("a") for c in text]

    def detokenizer(self) -> BytesDetokenizer:
        return BytesDetokenizer(self.token_bytes)

    def token_text(self, token: int) -> str:
        return chr(ord("a") + token % 26)

    def token_bytes(self, token: int) -> bytes:
        return self.token_text(token).encode()


class ScriptedRunner(ModelRunner):
    """The next token is the last one plus one, seen only if the slot's cache holds what the span claims."""

    def __init__(self, max_slots: int) -> None:
        self.tokenizer = ScriptedTokenizer()
        self.info = ModelInfo(
            name="scripted", format="scripted", method="", architecture="", bits=0, bits_per_weight=0, parameters=0,
            size_mb=0, weight_bytes=0, n_ctx=4096, n_vocab=N_VOCAB, max_slots=max_slots, device="cpu", dtype="",
            chat_template=False,
        )  # fmt: skip
        self.cache: list[list[int]] = [[] for _ in range(max_slots)]
        self.steps: list[list[tuple[int, int, int]]] = []
        self.fail_next: Exception | None = None
        self.fails: Callable[[Sequence[Span]], bool] = lambda batch: False
        self.has_room: Callable[[Span], bool] = lambda span: True
        self.no_room: Exception = DoesNotFitError("no room")

    @classmethod
    def load(cls, spec: Any, progress: Any, reserved: int = 0) -> ScriptedRunner:
        raise NotImplementedError

    def reserve(self, batch: Sequence[Span]) -> None:
        if not all(map(self.has_room, batch)):
            raise self.no_room

    def step(self, batch: Sequence[Span]) -> np.ndarray:
        assert len({span.slot for span in batch}) == len(batch), "a slot appears once in a step"
        self.steps.append([(span.slot, span.start, len(span.tokens)) for span in batch])
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error
        if self.fails(batch):
            for span in batch:  # some of it was computed
                self.cache[span.slot][span.start :] = [EOS]
            raise RuntimeError("boom")
        rows = []
        for span in batch:
            assert len(self.cache[span.slot]) >= span.start, "everything before a span is in the cache"
            self.cache[span.slot][span.start :] = span.tokens
            wanted = span.tokens[len(span.tokens) - span.n_rows :]
            rows += [np.eye(N_VOCAB, dtype=np.float32)[(token + 1) % N_VOCAB] * 50 for token in wanted]
        return np.array(rows, np.float32).reshape(-1, N_VOCAB)

    def copy_prefix(self, src: int, dst: int, n: int) -> None:
        assert len(self.cache[src]) >= n
        self.cache[dst] = self.cache[src][:n]

    def truncate(self, slot: int, n: int) -> None:
        del self.cache[slot][n:]


class EightAtOnce(ScriptedRunner):
    """One whose prompts have to be computed in eights at least."""

    least_chunk = 8


class Only:
    """A constraint that allows the tokens for which `allows` is true."""

    complete = False

    def __init__(self, allows: Callable[[int], bool]) -> None:
        self._allowed = np.array([allows(token) for token in range(N_VOCAB)])

    def advance(self, token: int) -> None:
        assert self._allowed[token]

    def mask_out(self, scores: np.ndarray) -> None:
        scores[~self._allowed] = -np.inf


class Bench:
    """A scheduler, its runner, and all that it said."""

    def __init__(self, max_slots: int = 4, *, runner: ModelRunner | None = None, **limits: Any) -> None:
        self.runner: Any = runner or ScriptedRunner(max_slots)
        self.chunks: dict[int, list[Chunk]] = {}
        self.failed: dict[int, Failed] = {}
        self.replies: dict[int, Any] = {}
        self.frames: list[list[int]] = []  # whose events went out together
        self.scheduler = Scheduler(self.runner, SchedulerLimits(**limits), self._take)

    def _take(self, events: list[Any]) -> None:
        self.frames.append([event.id for event in events if not isinstance(event, PromptCacheChanged)])
        for event in events:
            match event:
                case Delta(id=request_id, chunk=chunk):
                    self.chunks.setdefault(request_id, []).append(chunk)
                case Failed(id=request_id):
                    self.failed[request_id] = event
                case Reply(id=request_id, value=value):
                    self.replies[request_id] = value

    def add(
        self,
        request_id: int,
        tokens: Sequence[int],
        max_tokens: int = 4,
        whole: bool = False,
        constraint: Only | None = None,
        **sampling: Any,
    ) -> None:
        params = SamplingParams(temperature=0, **sampling)
        sampler = Sampler(params, tokens, self.runner.info.n_vocab)
        if constraint is not None:
            sampler.constrain(constraint)  # type: ignore[arg-type]
        answer = AnswerText(self.runner.tokenizer.detokenizer(), params.stop)
        self.scheduler.add(Generating(request_id, list(tokens), max_tokens, params, sampler, answer, whole))

    def score(self, request_id: int, tokens: Sequence[int]) -> None:
        sink = ScoreSink(tokens)
        self.scheduler.add(Scoring(request_id, list(tokens), sink))

    def run(self, steps: int = 10_000) -> None:
        for _ in range(steps):
            if not self.scheduler.n_requests:
                return
            self.scheduler.step()

    def tokens(self, request_id: int) -> list[int]:
        return [t for chunk in self.chunks.get(request_id, []) for t in chunk.token_ids]

    def answers(self) -> list[tuple[Any, ...]]:
        """All that the sampler decides of each answer, in the order of the requests."""
        answers = (joined(chunks) for _, chunks in sorted(self.chunks.items()))
        return [(a.token_ids, a.text, a.logprobs, a.finish_reason) for a in answers]
