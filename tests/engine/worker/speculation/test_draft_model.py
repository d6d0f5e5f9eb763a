"""A draft model, and what the scheduler makes of its drafts, on runners whose every step is written down."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from lqmf_runner.engine.worker.request import Generating
from lqmf_runner.engine.worker.runners.base import Span
from lqmf_runner.engine.worker.sampling import Sampler
from lqmf_runner.engine.worker.scheduler import Scheduler, SchedulerLimits
from lqmf_runner.engine.worker.speculation.draft_model import Acceptance, DraftModel
from lqmf_runner.engine.worker.text import AnswerText
from lqmf_runner.errors import DoesNotFitError, EngineError
from lqmf_runner.types import SamplingParams
from tests.support.engine.scheduling import EOS, N_VOCAB, Bench, Only, ScriptedRunner

from .test_ngrams import KnownCosts, NoisyRunner

PROMPT = [10, 50, 90, 30, 70, 20]  # no three of these tokens come again: n-grams have nothing to draft


class DraftRunner(ScriptedRunner):
    """Says what the model says, but nonsense after each token that `wrong` divides."""

    def __init__(self, max_slots: int = 4, wrong: int = 0, n_ctx: int = 4096, n_vocab: int = N_VOCAB) -> None:
        super().__init__(max_slots)
        self.wrong = wrong
        self.info = msgspec.structs.replace(self.info, n_ctx=n_ctx, n_vocab=n_vocab)

    def step(self, batch: Sequence[Span]) -> np.ndarray:
        for span in batch:
            assert span.end <= self.info.n_ctx
            assert max(span.tokens) < self.info.n_vocab
        rows = super().step(batch)
        if self.wrong:
            wrong = (rows.argmax(-1) - 1) % self.wrong == 0
            rows[wrong] = np.eye(N_VOCAB, dtype=np.float32)[3]
        return rows[:, : self.info.n_vocab]


class DraftBench(Bench):
    """A scheduler whose model has a draft model, with known costs of both."""

    def __init__(
        self,
        draft: ScriptedRunner | None = None,
        *,
        main: ScriptedRunner | None = None,
        row: float = 0.0,
        draft_step: float = 0.05,
        **limits: Any,
    ) -> None:
        super().__init__()
        self.runner = main or ScriptedRunner(4)
        self.draft = draft or DraftRunner()
        limits = {"n_batch": 512, **limits}
        costs = KnownCosts()
        costs.of = lambda n_rows: draft_step * n_rows  # type: ignore[method-assign]
        model = DraftModel(self.draft, N_VOCAB, limits["n_batch"], costs)
        self.scheduler = Scheduler(self.runner, SchedulerLimits(**limits), self._take, KnownCosts(row), model)

    def plain(self) -> Bench:
        """The same model without drafts."""
        bench = Bench()
        bench.runner = type(self.runner)(4)
        bench.scheduler = Scheduler(bench.runner, SchedulerLimits(speculation="off"), bench._take)
        return bench


@pytest.mark.parametrize("wrong", [0, 2, 3, 7, 1])
@pytest.mark.parametrize("max_tokens", [1, 2, 3, 40])
def test_drafts_change_no_token_whatever_the_draft_model_says(wrong: int, max_tokens: int) -> None:
    bench = DraftBench(DraftRunner(wrong=wrong))
    bench.add(1, PROMPT, max_tokens)
    bench.run()
    assert bench.tokens(1) == [21 + i for i in range(max_tokens)]
    usage, stats = bench.chunks[1][-1].usage, bench.scheduler.stats()
    assert usage.drafted_tokens == usage.draft_model_drafted_tokens == stats.draft_model_drafted_tokens
    assert usage.accepted_tokens == usage.draft_model_accepted_tokens == stats.draft_model_accepted_tokens
    assert stats.completion_tokens == max_tokens
    assert stats.decode_tokens == max_tokens - 1
    assert len(bench.runner.steps) == max_tokens - stats.accepted_tokens
    if max_tokens == 40:
        assert stats.drafted_tokens > 0
        assert (stats.accepted_tokens > 0) == (wrong != 1)
        if not wrong:
            assert stats.accepted_tokens == stats.drafted_tokens


def test_ngrams_come_first_and_both_are_counted() -> None:
    bench = DraftBench()
    bench.add(
        1, [*range(100, 120), 500, *range(100, 110)], max_tokens=30
    )  # goes on as the prompt did, then beyond
    bench.run()
    assert bench.tokens(1) == [*range(110, 140)]
    stats = bench.scheduler.stats()
    of_model, all_drafted = stats.draft_model_accepted_tokens, stats.accepted_tokens
    assert 0 < of_model < all_drafted


def test_requests_are_drafted_together_and_keep_their_own_cache() -> None:
    bench = DraftBench(DraftRunner(wrong=5))
    starts = (100, 300, 500)
    for i, start in enumerate(starts):
        bench.add(i, [start, start + 90, start + 40, start], max_tokens=30)
    bench.run()
    for i, start in enumerate(starts):
        assert bench.tokens(i) == [start + 1 + k for k in range(30)]
    assert bench.scheduler.stats().draft_model_accepted_tokens > 10
    assert any(len(step) == 3 for step in bench.draft.steps)


def test_a_draft_that_costs_more_than_it_brings_is_not_made() -> None:
    for costs in ({"row": 1.0}, {"draft_step": 1.0}):
        bench = DraftBench(**costs)  # type: ignore[arg-type]
        bench.add(1, PROMPT, max_tokens=40)
        bench.run()
        assert bench.scheduler.stats().drafted_tokens == 0
        assert not bench.draft.steps


def test_a_draft_model_that_is_always_wrong_is_left_alone_and_tried_again_later() -> None:
    bench = DraftBench(DraftRunner(wrong=1), row=0.1)
    drafted = []
    for i in range(8):
        bench.add(i, [*PROMPT, i], max_tokens=300)
        bench.run()
        drafted.append(bench.chunks[i][-1].usage.drafted_tokens)
    assert drafted[0] > 0
    assert sum(drafted[1:3]) < 20, "of 600 tokens"
    acceptance = Acceptance()
    for _ in range(100):
        acceptance.note(0, 4)
    before = acceptance.chance
    for _ in range(5000):
        acceptance.doubt()
    assert before < 0.15
    assert acceptance.chance > 0.5


def test_the_length_of_a_draft_is_what_promises_the_most_tokens_a_second() -> None:
    lengths = (1, 2, 3, 4, 6, 8, 12, 16)
    for row, draft_step, chance in itertools.product((0.05, 0.2, 0.5), (0.05, 0.2), (0.45, 0.8, 0.95)):
        runner = DraftRunner()
        bench = DraftBench(runner, row=row, draft_step=draft_step)
        model = bench.scheduler._drafting.draft_model
        assert model is not None
        model._acceptance._hits, model._acceptance._trials = chance * 1e9, 1e9
        bench.add(1, PROMPT, max_tokens=200)
        bench.run(2)  # the prompt, then a draft
        gains = [sum(chance**i for i in range(n + 1)) / (1 + row * n + draft_step * n) for n in lengths]
        expected = lengths[int(np.argmax(gains))] if max(gains) > 1.2 else 0
        assert bench.scheduler.stats().drafted_tokens == expected, (row, draft_step, chance)


class MeasuredCosts(KnownCosts):
    """Of a model whose steps were run over up to so many rows."""

    reach = 4

    def knows(self, n_rows: int) -> bool:
        return n_rows <= self.reach


def test_drafts_become_longer_no_faster_than_their_costs_are_known() -> None:
    bench = DraftBench(draft_step=1e-4)
    costs = MeasuredCosts()
    bench.scheduler._drafting._costs = costs
    model = bench.scheduler._drafting.draft_model
    assert model is not None
    model._acceptance._hits = model._acceptance._trials = 1e9
    for costs.reach, length in ((1, 3), (2, 4), (4, 8), (8, 16), (100, 16)):
        before = bench.scheduler.stats().drafted_tokens
        bench.add(length + costs.reach, [*PROMPT, costs.reach], max_tokens=200)
        bench.run(2)
        assert bench.scheduler.stats().drafted_tokens - before == length
        bench.scheduler.cancel(length + costs.reach)


def test_reading_a_long_prompt_has_to_pay_for_what_is_left_of_the_answer() -> None:
    prompt = [int(t) for t in np.random.default_rng(0).permutation(900)]
    for max_tokens, drafts in ((10, False), (1000, True)):
        bench = DraftBench(draft_step=0.02)  # 18 steps of the model to read it
        bench.add(1, prompt, max_tokens, logit_bias={EOS: -100.0})
        bench.run(8)
        assert (bench.scheduler.stats().drafted_tokens > 0) == drafts


def test_a_long_prompt_is_read_in_pieces_while_the_answer_goes_on() -> None:
    prompt = [int(t) for t in np.random.default_rng(0).permutation(300)]
    bench = DraftBench(draft_step=1e-4, n_batch=64)
    bench.add(1, prompt, max_tokens=20)
    bench.run()
    assert bench.tokens(1) == [prompt[-1] + 1 + i for i in range(20)]
    assert max(sum(n for *_, n in step) for step in bench.draft.steps) <= 64
    assert bench.scheduler.stats().draft_model_accepted_tokens > 0


def test_a_request_beyond_the_draft_models_context_goes_on_without() -> None:
    bench = DraftBench(DraftRunner(n_ctx=20))
    bench.add(1, PROMPT, max_tokens=40)
    bench.run()
    assert bench.tokens(1) == [21 + i for i in range(40)]
    assert 0 < bench.scheduler.stats().accepted_tokens <= 20 - len(PROMPT)


def test_a_token_that_the_draft_model_does_not_have_ends_its_drafts() -> None:
    bench = DraftBench(DraftRunner(n_vocab=40))
    bench.add(1, [10, 5, 9, 3, 7, 20], max_tokens=40)
    bench.run()
    assert bench.tokens(1) == [21 + i for i in range(40)]
    assert 0 < bench.scheduler.stats().accepted_tokens < 20


def test_a_later_turn_reads_only_what_is_new() -> None:
    bench = DraftBench(draft_step=0.001)
    turn = [int(t) for t in np.random.default_rng(0).permutation(200)] + [500]
    bench.add(1, turn, max_tokens=8)
    bench.run()
    read = sum(n for step in bench.draft.steps for *_, n in step)
    turn = [*turn, *bench.tokens(1), 700, 600]
    bench.add(2, turn, max_tokens=8)
    bench.run()
    assert bench.tokens(2) == [601 + i for i in range(8)]
    assert sum(n for step in bench.draft.steps for *_, n in step) < read + 30
    assert bench.scheduler.stats().draft_model_accepted_tokens > 8


def test_nothing_is_drafted_while_a_prompt_is_computed_or_many_requests_run() -> None:
    bench = DraftBench(n_batch=16, prefill_chunk=4)
    bench.add(1, PROMPT, max_tokens=200)
    bench.run(1)
    bench.add(2, [int(t) for t in np.random.default_rng(0).permutation(100)], max_tokens=2)
    bench.run(10)
    assert not bench.draft.steps, "a prompt is computed in each of these steps"
    for i in range(3, 6):
        bench.add(i, [*PROMPT, i], max_tokens=20)
    bench.run()
    assert bench.tokens(1) == [21 + i for i in range(200)]
    assert bench.draft.steps


def test_a_stop_string_and_an_end_token_inside_a_draft_end_the_answer_there() -> None:
    bench = DraftBench()
    bench.add(1, [990], max_tokens=50)
    bench.run()
    assert bench.tokens(1) == [991, 992, 993, 994, 995, 996, 997, 998, EOS]
    assert bench.chunks[1][-1].finish_reason == "stop"
    bench = DraftBench()
    bench.add(2, PROMPT, max_tokens=50, stop=("k",))  # 36 is a k
    bench.run()
    assert bench.tokens(2) == [*range(21, 37)]
    assert bench.scheduler.stats().draft_model_accepted_tokens > 0
    assert bench.runner.cache[0] == [*PROMPT, *range(21, 36)]


def test_penalties_and_logprobs_see_every_position_as_without_drafts() -> None:
    found, drafting = [], DraftBench(DraftRunner(wrong=6))
    for bench in (drafting, drafting.plain()):
        bench.add(1, PROMPT, max_tokens=60, frequency_penalty=2.0, presence_penalty=2.0, logprobs=2)
        bench.add(2, PROMPT[::-1], max_tokens=60, repetition_penalty=1.5, logit_bias={30: -100.0})
        bench.run()
        found.append(bench.answers())
    assert found[0] == found[1]
    assert drafting.scheduler.stats().draft_model_accepted_tokens > 0


def test_a_constraint_refuses_what_is_drafted() -> None:
    bench = DraftBench()
    bench.add(1, PROMPT, max_tokens=20, constraint=Only(lambda token: token < 30))
    bench.run()
    assert len(bench.tokens(1)) == 20
    assert max(bench.tokens(1)) == 29
    stats = bench.scheduler.stats()
    assert stats.draft_model_drafted_tokens > stats.draft_model_accepted_tokens > 0


def test_a_request_is_cancelled_between_drafts_and_its_slots_are_used_again() -> None:
    bench = DraftBench(DraftRunner(1), main=ScriptedRunner(1))
    bench.add(1, PROMPT, max_tokens=500)
    bench.run(4)
    assert 0 < bench.scheduler.stats().accepted_tokens < 400
    bench.scheduler.cancel(1)
    bench.add(2, [*PROMPT, 21, 22, 23, 400], max_tokens=9)
    bench.run()
    assert bench.tokens(2) == [401 + i for i in range(9)]
    assert bench.chunks[2][-1].usage.draft_model_accepted_tokens > 0
    bench.scheduler.reset_prefix_cache()
    assert bench.draft.cache == [[]]


@pytest.mark.parametrize("error", [EngineError("broken"), DoesNotFitError("no memory for a larger cache")])
def test_a_draft_model_that_fails_costs_no_request(error: Exception) -> None:
    bench = DraftBench()
    bench.add(1, PROMPT, max_tokens=40)
    bench.run(3)
    bench.draft.fail_next = error
    bench.run()
    assert bench.tokens(1) == [21 + i for i in range(40)]
    assert bench.scheduler.stats().draft_model_failures == 1
    assert bench.draft.cache == [[], [], [], []]
    bench.add(2, PROMPT, max_tokens=40)
    bench.run()
    assert bench.chunks[2][-1].usage.draft_model_accepted_tokens > 0, "the next request drafts again"


def test_a_model_that_fails_in_a_verifying_step_gives_both_slots_back() -> None:
    bench = DraftBench()
    bench.add(1, PROMPT, max_tokens=40)
    bench.run(3)
    bench.runner.fail_next = EngineError("broken")
    bench.run()
    assert list(bench.failed) == [1]
    for i in range(2, 7):
        bench.add(i, [*PROMPT, i], max_tokens=20)
        bench.run()
        assert bench.chunks[i][-1].usage.draft_model_accepted_tokens > 0


class NoisyDraft(NoisyRunner):
    """Always says the most likely token of another table than the model's."""

    chances = np.array([[0.2, 0.5, 0.3], [0.3, 0.3, 0.4], [0.2, 0.7, 0.1]])


def test_sampled_answers_keep_their_text_by_seed_and_their_distribution() -> None:
    prompt, n_tokens, n_seeds = [0], 4, 2000
    bench = DraftBench(NoisyDraft(4), main=NoisyRunner(4))
    plain = bench.plain()
    for seed in range(n_seeds):
        params = SamplingParams(temperature=1.0, seed=seed)
        for each in (bench, plain):
            answer = AnswerText(each.runner.tokenizer.detokenizer(), ())
            sampler = Sampler(params, prompt, N_VOCAB)
            each.scheduler.add(Generating(seed, [*prompt], n_tokens, params, sampler, answer))
            each.run()
    answers = [tuple(bench.tokens(seed)) for seed in range(n_seeds)]
    assert answers == [tuple(plain.tokens(seed)) for seed in range(n_seeds)]
    stats = bench.scheduler.stats()
    assert 300 < stats.draft_model_accepted_tokens < stats.draft_model_drafted_tokens
    statistic, counts = 0.0, Counter(answers)
    for text in itertools.product(range(3), repeat=n_tokens):
        pairs = itertools.pairwise((prompt[-1], *text))
        expected = n_seeds * float(np.prod([NoisyRunner.chances[a, b] for a, b in pairs]))
        statistic += (counts[text] - expected) ** 2 / expected
    assert statistic < 80 + 4 * (2 * 80) ** 0.5, "chi-square with 80 degrees of freedom, four deviations"


def test_the_time_of_the_draft_model_counts_as_decoding() -> None:
    bench = DraftBench()
    bench.add(1, PROMPT, max_tokens=40)
    bench.run()
    model = bench.scheduler._drafting.draft_model
    assert model is not None
    assert bench.scheduler.stats().decode_s > model.seconds > 0
