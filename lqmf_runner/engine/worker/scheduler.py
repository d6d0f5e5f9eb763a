"""Continuous batching, the same for every format.

Each step computes one token of every decoding request. The rest of its token budget goes to prompts, in order of
arrival. While other requests decode, prompts get at most `prefill_chunk` tokens a step, so a long prompt does not stall
them. If more prompts wait than requests decode and the prompts are short, they get proportionally more, so requests
that arrive together start together. A prompt with the same beginning as one that is being computed waits for it and
reuses its cache.

A decode token may have a draft of the next tokens in its step (`speculation/`). The sampler then chooses at each
position as it would without the draft, and continues as long as it chooses the drafted token. So the text does not
depend on drafts, except for the rounding of kernels that compute several rows.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from ...errors import DoesNotFitError, QueueFullError
from ...types import Chunk, EngineStats, TokenLogprob, joined
from ..protocol import Delta, Event, PromptCacheChanged, Reply, failure
from .cache.prefixes import Prefixes
from .cache.prompts import PromptCache, limit_bytes
from .cache.slots import MIN_SHARED, Placement, common_prefix, most_reusable
from .counts import count_drafts, count_step
from .drafting import Drafting
from .request import (
    Generating,
    Request,
    Running,
    Scoring,
    Work,
    can_share,
    chunk_size,
    next_span,
    parts_of,
    usage_of,
    without_drafts,
)
from .runners.base import ModelRunner, Span
from .sampling import Logits, token_logprob
from .speculation.draft_model import DraftModel
from .speculation.step_costs import StepCosts

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """Limits of a step and of the queue.

    Attributes:
        n_batch: tokens in a step.
        prefill_chunk: tokens of prompts in a step that also decodes.
        max_queue: requests that may wait.
        prefix_reuse: whether a prompt may reuse what a slot's KV cache holds.
        speculation: "ngram" drafts tokens, "off" does not.
        batch_invariant: no drafts, since several rows go through other kernels than one.
        prompt_cache_mb: of main memory for prompts that have left their slot; None is a tenth of the machine's
            or container's, which `sharing` workers of the model divide.
    """

    n_batch: int = 512
    prefill_chunk: int = 128
    max_queue: int = 512
    prefix_reuse: bool = True
    speculation: str = "ngram"
    batch_invariant: bool = False
    prompt_cache_mb: float | None = None
    sharing: int = 1


class Scheduler:
    """Runs requests on a `ModelRunner`. Used by one thread. `emit` gets the events of a step together."""

    def __init__(
        self,
        runner: ModelRunner,
        limits: SchedulerLimits,
        emit: Callable[[list[Event]], None],
        costs: StepCosts | None = None,
        draft_model: DraftModel | None = None,
    ) -> None:
        self._runner = runner
        self._limits = limits
        self._emit = emit
        self._reuse = limits.prefix_reuse and runner.can_reuse_prefix
        self._drafting = Drafting(
            limits.n_batch,
            enabled=limits.speculation == "ngram" and runner.can_reuse_prefix and not limits.batch_invariant,
            draft_model=draft_model,
            costs=costs,
        )
        self._least = runner.least_chunk
        keeps = self._reuse and runner.keeps_prefixes
        kept = limit_bytes(limits.prompt_cache_mb, limits.sharing) if keeps else 0
        self._prefixes = Prefixes(runner, PromptCache(kept), reuse=self._reuse)
        self._waiting: deque[Request] = deque()
        self._running: list[Running] = []
        self._cancelled: set[int] = set()
        self._events: list[Event] = []
        self._stats = EngineStats()

    @property
    def n_requests(self) -> int:
        """Requests that run or wait."""
        return len(self._waiting) + len(self._running)

    def add(self, request: Request) -> None:
        """Queue a request.

        Raises:
            QueueFullError: `max_queue` requests wait already.
        """
        if len(self._waiting) >= self._limits.max_queue + len(self._prefixes.table.idle):
            raise QueueFullError(
                f"{len(self._waiting)} requests wait already", hint="try again in a few seconds"
            )
        self._waiting.append(request)

    def cancel(self, request_id: int) -> None:
        """Drop a request before the next step, whether it waits or runs."""
        self._cancelled.add(request_id)

    def stats(self) -> EngineStats:
        return msgspec.structs.replace(
            self._stats,
            running=len(self._running),
            waiting=len(self._waiting),
            draft_model_failures=self._drafting.failures,
        )

    def reset_prefix_cache(self) -> None:
        """Drop the prompts in idle slots and main memory, so no later prompt reuses them."""
        self._prefixes.reset()
        self._drafting.reset()
        self._report_prompts()
        self._flush()

    def shrink_prompt_cache(self, n_bytes: int) -> None:
        """Drop the prompts in main memory that were unused longest, until the rest takes at most so many bytes."""
        self._prefixes.prompts.shrink(n_bytes)
        self._report_prompts()
        self._flush()

    def step(self) -> None:
        """Advance all running requests by one step of the model."""
        self._drop_cancelled()
        self._admit()
        self._report_prompts()
        for part in parts_of(self._plan(), mixes_prompts=self._runner.mixes_prompts):
            running, decoding = len(self._running), part[0][0].decoding
            self._run(part)
            if decoding or len(self._running) < running:
                self._flush()
        self._flush()

    def _flush(self) -> None:
        if self._events:
            events, self._events = self._events, []
            self._emit(events)

    def _report_prompts(self) -> None:
        if use := self._prefixes.prompts.changed_use():
            self._events.append(PromptCacheChanged(use))

    def _run(self, plan: Sequence[Work]) -> None:
        plan = self._with_room(plan)
        if not plan:
            return
        began = time.perf_counter()
        try:
            logits = self._runner.step([span for _, span in plan])
        except Exception as error:
            self._run_apart(plan, error)
        else:
            seconds, decoding = time.perf_counter() - began, [r.decoding for r, _ in plan]
            accepted = self._stats.accepted_tokens
            self._take_in(plan, logits)
            spans, accepted = [span for _, span in plan], self._stats.accepted_tokens - accepted
            if count_step(self._stats, spans, decoding, accepted, seconds):
                self._drafting.note(sum(len(span.tokens) for span in spans), seconds)

    def _run_apart(self, plan: Sequence[Work], error: Exception) -> None:
        """A step failed. Compute its requests one by one, from what their slots held before it, to find which fails."""
        if len(plan) == 1:
            self._fail(plan, error)
            return
        log.warning("a step of %d requests failed, and each is computed alone: %s", len(plan), error)
        for work in plan:
            try:
                self._runner.truncate(work[0].slot.index, work[1].start)
            except Exception:  # a slot of a recurrent model cannot be cut back
                self._fail([work], error)
        for work in plan:
            if work[0] in self._running:
                self._run([work])

    def _with_room(self, plan: Sequence[Work]) -> Sequence[Work]:
        """The work for which the KV cache has room. A request for which it cannot grow fails, the others go on."""
        try:
            return self._reserve(plan)
        except Exception:  # each is reserved alone and gets its own error
            fitting = []
        for work in without_drafts(plan):
            try:
                self._runner.reserve([work[1]])
                fitting.append(work)
            except Exception as error:
                self._fail([work], error)
        return fitting

    def _reserve(self, plan: Sequence[Work]) -> Sequence[Work]:
        """Grow the KV cache. If memory does not hold a larger one, leave out drafts or else prompts in main memory."""
        try:
            self._runner.reserve([span for _, span in plan])
        except DoesNotFitError:
            if (plain := without_drafts(plan)) != plan:
                return self._reserve(plain)
            if not self._prefixes.prompts.n_bytes:
                raise
            self._prefixes.prompts.shrink(0)
            self._runner.reserve([span for _, span in plan])
        return plan

    def _drop_cancelled(self) -> None:
        if not self._cancelled:
            return
        cancelled, self._cancelled = self._cancelled, set()
        self._waiting = deque(s for s in self._waiting if s.id not in cancelled)
        for running in [r for r in self._running if r.request.id in cancelled]:
            self._leave(running)

    def _admit(self) -> None:
        postponed: list[Request] = []
        while self._waiting:
            request = self._waiting[0]
            reuse = self._reuse and can_share(request)
            placement = self._prefixes.place(request.tokens, reuse=reuse)
            if placement is None:
                break
            self._waiting.popleft()
            if reuse and self._soon_shared(request) >= placement.shared + MIN_SHARED:
                postponed.append(request)
                continue
            try:
                self._start(request, placement)
            except Exception as error:
                self._events.append(failure(request.id, error))
        self._waiting.extendleft(reversed(postponed))

    def _start(self, request: Request, placement: Placement) -> None:
        shared = self._prefixes.start(placement, request.tokens, shareable=can_share(request))
        self._running.append(Running(request, placement.slot, shared, shared, *self._drafting.drafters()))
        self._stats.requests += 1
        self._stats.prompt_tokens += request.n_prompt
        self._stats.cached_tokens += shared

    def _soon_shared(self, request: Request) -> int:
        """The longest prefix this prompt has in common with one that is being computed now."""
        lengths = [
            common_prefix(other.request.tokens, request.tokens)
            for other in self._running
            if not other.decoding and can_share(other.request)
        ]
        return min(max(lengths, default=0), most_reusable(request.tokens, self._least))

    def _plan(self) -> list[Work]:
        """The spans of the next step, decode tokens first."""
        decoding = [running for running in self._running if running.decoding]
        prompts = [running for running in self._running if not running.decoding]
        drafted_s = self._drafting.seconds
        spans = self._drafting.spans(decoding, len(self._running) + len(self._waiting))
        self._stats.decode_s += self._drafting.seconds - drafted_s
        plan = [*zip(decoding, spans, strict=True)]
        budget = self._limits.n_batch - sum(len(span.tokens) for _, span in plan)
        if plan and prompts:
            left = [r.request.n_prompt - r.n_computed for r in prompts]
            short = sum(left) <= self._limits.prefill_chunk * len(left)
            times = max(1, len(left) // len(plan)) if short else 1
            budget = min(budget, self._limits.prefill_chunk * times)
        budget = max(budget, 2 * self._least)  # less could be too small for any chunk of a prompt
        for running in prompts:
            if budget > 0:
                request = running.request
                most = min(budget, request.sink.chunk) if isinstance(request, Scoring) else budget
                if n := chunk_size(request.n_prompt - running.n_computed, most, self._least):
                    plan.append((running, next_span(running, n)))
                    budget -= n
        return plan

    def _take_in(self, plan: Sequence[Work], logits: Logits) -> None:
        now, row = time.perf_counter(), 0
        for running, span in plan:
            if not (self._limits.batch_invariant and running.decoding):  # one row has other kernels
                running.slot.tokens.extend(span.tokens)
            running.n_computed += len(span.tokens)
            rows, row = logits[row : row + span.n_rows], row + span.n_rows
            request = running.request
            try:
                if isinstance(request, Scoring):
                    self._score(running, request, span, rows)
                elif span.n_rows:
                    self._generate(running, request, span, rows, now)
            except Exception as error:
                self._events.append(failure(request.id, error))
                self._leave(running)

    def _generate(self, running: Running, request: Generating, span: Span, rows: Logits, now: float) -> None:
        """Choose the token after the span. With a draft in it, choose after each position up to the first rejection."""
        draft, drafter = span.tokens[len(span.tokens) - span.n_rows + 1 :], running.drafter
        drafter.drafted += len(draft)
        count_drafts(self._stats, drafter, drafted=len(draft))
        n_accepted, before = 0, drafter.accepted
        chunks = [self._choose(running, request, rows[0], now)]
        while not chunks[-1].finish_reason and request.tokens[-1:] == draft[n_accepted : n_accepted + 1]:
            n_accepted += 1
            drafter.accepted = before + n_accepted
            chunks.append(self._choose(running, request, rows[n_accepted], now))
        self._deliver(request, chunks)
        if chunks[-1].finish_reason:
            self._leave(running)
        if draft:
            count_drafts(self._stats, drafter, accepted=n_accepted)
            running.n_computed = span.end - len(draft) + n_accepted
            del running.slot.tokens[running.n_computed :]
            self._runner.truncate(running.slot.index, running.n_computed)

    def _choose(self, running: Running, request: Generating, logits: Logits, now: float) -> Chunk:
        """Choose a token; the chunk has a finish reason if the answer ends with it."""
        token = request.sampler.sample(logits)
        if not request.n_generated:
            request.first_token = now
        request.last_token = now
        request.tokens.append(token)
        self._stats.completion_tokens += 1
        logprobs: tuple[TokenLogprob, ...] = ()
        n_top = request.sampling.logprobs
        finish_reason = None
        if token in self._runner.tokenizer.eos_ids and not request.sampling.ignore_eos:
            text, finish_reason = "", "stop"
        else:
            text = request.answer.add(token)
            if n_top is not None:
                texts = self._runner.tokenizer
                logprobs = (token_logprob(logits, token, n_top, texts.token_text, texts.token_bytes),)
            matcher = request.sampler.matcher
            if request.answer.stopped or (matcher is not None and matcher.complete):
                finish_reason = "stop"
            elif request.n_generated >= request.max_tokens:
                finish_reason = "length"
        if finish_reason:
            text += request.answer.finish()
            # A stop string may be complete only with the last, until now incomplete, character.
            if request.answer.stopped:
                finish_reason = "stop"
        thoughts, text = request.divided(text, last=finish_reason is not None)
        return Chunk(
            text=text,
            reasoning=thoughts,
            token_ids=(token,),
            logprobs=logprobs,
            finish_reason=finish_reason,
            usage=usage_of(running, request) if finish_reason else None,
        )

    def _deliver(self, request: Generating, chunks: list[Chunk]) -> None:
        if request.whole and request.n_generated > 1:
            request.held += chunks
            if chunks[-1].finish_reason is None:
                return
            chunks = request.held
        self._events.append(Delta(request.id, chunks[0] if len(chunks) == 1 else joined(chunks)))

    def _score(self, running: Running, request: Scoring, span: Span, rows: Logits) -> None:
        if span.n_rows:
            request.sink.take(span.end - span.n_rows, rows)
        if running.n_computed == request.n_prompt:
            self._events.append(Reply(request.id, request.sink.result(running.n_cached)))
            self._leave(running)

    def _leave(self, running: Running) -> None:
        """End a request. Its slot keeps the computed tokens that another may reuse."""
        self._running.remove(running)
        self._drafting.leave(running)
        if self._limits.batch_invariant and self._reuse:
            self._runner.truncate(running.slot.index, len(running.slot.tokens))
        self._prefixes.table.release(running.slot)

    def _fail(self, plan: Sequence[Work], error: Exception) -> None:
        """A step failed: the content of its slots is unknown now."""
        for running, _ in plan:
            self._events.append(failure(running.request.id, error))
            self._leave(running)
            self._prefixes.forget(running.slot)
