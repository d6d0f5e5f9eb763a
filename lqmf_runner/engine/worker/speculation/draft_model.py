"""A draft model: a second, smaller model with the same vocabulary, which answers ahead of the one that is served.

Its greedy tokens are drafts like those from n-grams, and are verified like them. All requests that draft get a draft of
one length, so that the draft model computes their tokens together. The length is what promises the most tokens a
second, by how often such tokens were chosen and by what steps of both models cost here; often it is none.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..cache.prefixes import Prefixes
from ..cache.prompts import PromptCache
from ..cache.slots import Slot, common_prefix
from ..runners.base import ModelRunner, Span
from .step_costs import StepCosts, least_gain, slows_others

MOST_DRAFTING = 4  # requests that run or wait; with more of them a step is full without drafts
_LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16)  # of a draft, in tokens
_TRIAL = 3  # tokens of a draft that is made to learn what a draft costs
_FIRST_CHANCE = 0.7  # that a drafted token is chosen, before anything is seen
_PRIOR_TRIALS = 8.0  # what was known before weighs, beside what was seen
_MOST_TRIALS = 64.0  # older ones count less
_FORGET = 0.999  # a step without a draft: a figure that is not measured again is doubted, so that it will be


class Acceptance:
    """How often the model chose a drafted token after it had chosen those before it.

    Args:
        before: what is believed before anything is seen.
    """

    def __init__(self, before: Acceptance | None = None) -> None:
        self._before = before
        self._hits = self._trials = 0.0

    def note(self, accepted: int, drafted: int) -> None:
        """Take in how many tokens of a draft were chosen."""
        if self._trials >= _MOST_TRIALS:
            self._hits, self._trials = self._hits / 2, self._trials / 2
        self._hits += accepted
        self._trials += accepted + (accepted < drafted)
        if self._before is not None:
            self._before.note(accepted, drafted)

    def doubt(self) -> None:
        """Believe a little less in what was seen."""
        self._hits *= _FORGET
        self._trials *= _FORGET

    @property
    def chance(self) -> float:
        """That the next drafted token is chosen."""
        prior = _FIRST_CHANCE if self._before is None else self._before.chance
        return (self._hits + _PRIOR_TRIALS * prior) / (self._trials + _PRIOR_TRIALS)


class ModelDrafter:
    """What the draft model has of one request.

    Attributes:
        drafted: tokens that the model had to verify.
        accepted: how many of them were the tokens that it chose.
        acceptance: how often that was, in this request and at first in others.
        slot: of the draft model's cache; None before the first draft.
        usable: False once the draft model cannot go on with this request.
        n_checked: tokens of the request that are known to be words of the draft model.
    """

    def __init__(self, before: Acceptance) -> None:
        self.drafted = 0
        self.accepted = 0
        self.acceptance = Acceptance(before)
        self.slot: Slot | None = None
        self.usable = True
        self.n_checked = 0
        self._draft: Sequence[int] = ()
        self._start = 0  # position of the first token of that draft

    def learn(self, tokens: Sequence[int]) -> None:
        """Compare the last draft with the tokens that were chosen."""
        if self._draft:
            chosen = tokens[self._start : self._start + len(self._draft)]
            self.acceptance.note(common_prefix(chosen, self._draft), len(self._draft))
            self._draft = ()

    def remember(self, start: int, draft: Sequence[int]) -> None:
        """That this draft of the tokens from position `start` on is now verified."""
        self._start, self._draft = start, draft


@dataclass(frozen=True, slots=True)
class DraftRequest:
    """A request for which a draft is needed.

    Attributes:
        tokens: of its prompt and its answer so far.
        most: tokens of a draft.
        rest: tokens that its answer is expected to have still.
    """

    drafter: ModelDrafter
    tokens: Sequence[int]
    most: int
    rest: int


class DraftModel:
    """Drafts for the requests of a step.

    Args:
        n_vocab: tokens that the model it drafts for has.
        n_batch: most tokens of prompts that it reads between two steps of that model.
        costs: of its own steps.
        reuse: whether a request may begin with what another has left in its cache.

    Attributes:
        seconds: that all its steps took.
        failures: drafts that it could not make. Their requests went on without.
    """

    def __init__(
        self,
        runner: ModelRunner,
        n_vocab: int,
        n_batch: int,
        costs: StepCosts | None = None,
        *,
        reuse: bool = True,
    ) -> None:
        self.seconds = 0.0
        self.failures = 0
        self._runner = runner
        self._n_vocab = min(n_vocab, runner.info.n_vocab)
        self._n_batch = n_batch
        self._reuse = reuse
        self._prefixes = Prefixes(runner, PromptCache(0), reuse=reuse)
        self._costs = costs or StepCosts()
        self._acceptance = Acceptance()

    def drafter(self) -> ModelDrafter:
        """That of a new request."""
        return ModelDrafter(self._acceptance)

    def leave(self, drafter: ModelDrafter) -> None:
        """Its request has ended. Its slot keeps its tokens for a later one that begins with them."""
        if drafter.slot is not None:
            self._prefixes.table.release(drafter.slot)
            drafter.slot = None

    def reset(self) -> None:
        """Forget what idle slots hold."""
        self._prefixes.reset()

    def propose(self, asked: Sequence[DraftRequest], n_rows: int, costs: StepCosts) -> list[list[int]]:
        """A draft for each request, in their order; an empty one where none pays.

        Args:
            asked: requests that decode in the next step.
            n_rows: of that step without these drafts.
            costs: of steps of the model that verifies them.
        """
        drafts: list[list[int]] = [[] for _ in asked]
        able = [(a, draft) for a, draft in zip(asked, drafts, strict=True) if self._can_draft(a)]
        length = self._best_length([a for a, _ in able], n_rows, costs)
        if not length:
            self._acceptance.doubt()
            self._costs.doubt()
            return drafts
        try:
            self._draft(able, length)
        except Exception as error:
            traceback.print_exception(error)
            self._give_up([a.drafter for a, _ in able])
            return [[] for _ in asked]
        for a, draft in able:
            a.drafter.remember(len(a.tokens), draft)
        return drafts

    def _can_draft(self, asked: DraftRequest) -> bool:
        """Whether there are tokens to draft, and room and words for them here."""
        drafter = asked.drafter
        drafter.learn(asked.tokens)
        if max(asked.tokens[drafter.n_checked :], default=0) >= self._runner.info.n_vocab:
            drafter.usable = False
        drafter.n_checked = len(asked.tokens)
        return drafter.usable and self._room(asked) > 0

    def _room(self, asked: DraftRequest) -> int:
        """Most tokens of a draft that its cache holds too; the last one is never computed here."""
        return min(asked.most, self._runner.info.n_ctx - len(asked.tokens) + 1)

    def _best_length(self, asked: Sequence[DraftRequest], n_rows: int, costs: StepCosts) -> int:
        """The length with the most expected tokens a second, 0 if none gains enough."""
        if not asked or not costs.knows(1):
            return 0
        if not self._costs.knows(1) or not costs.knows(n_rows + 1):
            return _TRIAL
        plain, n_beside = n_rows / costs.of(n_rows), n_rows - len(asked)
        best, best_rate = 0, least_gain(n_beside) * plain
        own_step = self._costs.of(len(asked))
        for length in _LENGTHS:
            lengths = [min(length, self._room(a)) for a in asked]
            if not costs.knows((n_rows + sum(lengths)) // 2):
                break  # far beyond what was measured the figure is too hopeful: get there in steps
            drafting = max(lengths) * own_step
            if n_beside and slows_others(n_rows, sum(lengths), costs, drafting):
                break
            chances = [a.drafter.acceptance.chance for a in asked]
            expected = n_rows + sum(_expected(p, n) for p, n in zip(chances, lengths, strict=True))
            rate = expected / (costs.of(n_rows + sum(lengths)) + drafting)
            if rate > best_rate:
                best, best_rate = length, rate
        if best:
            gain = (1 / plain - 1 / best_rate) * sum(a.rest for a in asked)
            if self._costs.of(sum(map(self._unread, asked))) > gain:
                return 0
        return best

    def _unread(self, asked: DraftRequest) -> int:
        """How many of its tokens this model has not computed yet."""
        if asked.drafter.slot is not None:
            return len(asked.tokens) - min(len(asked.drafter.slot.tokens), len(asked.tokens) - 1)
        placement = self._prefixes.place(asked.tokens, reuse=self._reuse)
        return len(asked.tokens) - (placement.shared if placement else 0)

    def _draft(self, able: Sequence[tuple[DraftRequest, list[int]]], length: int) -> None:
        """Fill in the drafts. A request whose tokens are too many to be read now gets none yet."""
        room, spans, drafting = self._n_batch, [], []
        for asked, draft in able:
            slot = self._slot(asked)
            if slot is None:
                continue
            start = len(slot.tokens)
            end = min(len(asked.tokens), start + room)
            if end > start:
                room -= end - start
                read = end == len(asked.tokens)
                spans.append(Span(slot.index, asked.tokens[start:end], start, int(read)))
                drafting.append((slot, draft, min(length, self._room(asked)) if read else 0))
        while spans:
            rows = iter(self._step(spans))
            for span, (slot, draft, most) in zip(spans, drafting, strict=True):
                slot.tokens.extend(span.tokens)
                if most:
                    draft.append(int(next(rows)[: self._n_vocab].argmax()))
            drafting = [(slot, draft, most) for slot, draft, most in drafting if len(draft) < most]
            spans = [Span(slot.index, draft[-1:], len(slot.tokens), 1) for slot, draft, _ in drafting]

    def _slot(self, asked: DraftRequest) -> Slot | None:
        """Its slot, which holds nothing but tokens of the request, and not its last one; None where none is free."""
        drafter, tokens = asked.drafter, asked.tokens
        if drafter.slot is None:
            placement = self._prefixes.place(tokens, reuse=self._reuse)
            if placement is None:
                return None
            self._prefixes.start(placement, tokens, shareable=True)
            drafter.slot = placement.slot
        slot = drafter.slot
        n = min(common_prefix(slot.tokens, tokens), len(tokens) - 1)
        if n < self._runner.shortest_prefix(slot.index):
            n = 0
        if n < len(slot.tokens):
            self._runner.truncate(slot.index, n)
            del slot.tokens[n:]
        return slot

    def _step(self, spans: Sequence[Span]) -> NDArray[np.float32]:
        began = time.perf_counter()
        logits = self._runner.step(spans)
        seconds = time.perf_counter() - began
        self._costs.note(sum(len(span.tokens) for span in spans), seconds)
        self.seconds += seconds
        return logits

    def _give_up(self, drafters: Sequence[ModelDrafter]) -> None:
        """A step failed: what the cache of these slots holds is unknown now."""
        self.failures += 1
        for drafter in drafters:
            drafter.usable = False
            if drafter.slot is not None:
                self._prefixes.forget(drafter.slot)
                self.leave(drafter)


def _expected(chance: float, n: int) -> float:
    """Tokens of a draft of n that are chosen on average: Σ chance^i for i from 1 to n."""
    return float(n) if chance >= 1 else chance * (1 - chance**n) / (1 - chance)
