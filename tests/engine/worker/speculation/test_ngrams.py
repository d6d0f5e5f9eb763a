"""Drafts from n-grams, and what the scheduler makes of them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lqmf_runner.engine.worker.request import Generating
from lqmf_runner.engine.worker.runners.base import Span
from lqmf_runner.engine.worker.sampling import Sampler
from lqmf_runner.engine.worker.scheduler import Scheduler, SchedulerLimits
from lqmf_runner.engine.worker.speculation.ngrams import NgramDrafter, Outcomes
from lqmf_runner.engine.worker.speculation.step_costs import StepCosts
from lqmf_runner.engine.worker.text import AnswerText
from lqmf_runner.errors import DoesNotFitError, EngineError
from lqmf_runner.types import SamplingParams
from tests.support.engine.scheduling import EOS, N_VOCAB, Bench, Only, ScriptedRunner

LOOP = [*range(100, 120)] * 2  # 100 follows 119 only here


class LoopingRunner(ScriptedRunner):
    """100 to 119 follow each other in a circle; beyond them, a token is followed by the one above it."""

    def step(self, batch: Sequence[Span]) -> np.ndarray:
        rows = super().step(batch)
        return np.where(rows.argmax(-1)[:, None] == 120, np.eye(N_VOCAB, dtype=np.float32)[100] * 50, rows)


class NoisyRunner(ScriptedRunner):
    """Three tokens, of which each is followed by the others with known probabilities."""

    chances = np.array([[0.2, 0.5, 0.3], [0.3, 0.1, 0.6], [0.7, 0.2, 0.1]])

    def step(self, batch: Sequence[Span]) -> np.ndarray:
        super().step(batch)
        rows = np.full((sum(span.n_rows for span in batch), N_VOCAB), -1e9, np.float32)
        tokens = [t for span in batch for t in span.tokens[len(span.tokens) - span.n_rows :]]
        rows[:, :3] = np.log(self.chances[tokens])
        return rows


class KnownCosts(StepCosts):
    """A step costs 1, and each row beyond the first so much more, whatever the clock says."""

    def __init__(self, row: float = 0.0) -> None:
        super().__init__()
        self.row = row

    def knows(self, n_rows: int) -> bool:
        return True

    def of(self, n_rows: int) -> float:
        return 1 + self.row * (n_rows - 1)


def bench_of(runner: ScriptedRunner, **limits: Any) -> Bench:
    bench = Bench()
    bench.runner = runner
    bench.scheduler = Scheduler(runner, SchedulerLimits(**limits), bench._take, KnownCosts())
    return bench


def drafts(tokens: Sequence[int], most: int, row: float = 0.0) -> list[int]:
    return list(NgramDrafter().propose(tokens, most, 1, KnownCosts(row)))


def test_a_draft_is_what_followed_the_same_tokens_last() -> None:
    tokens = [1, 2, 3, 9, 1, 2, 3, 7, 8, 6, 1, 2, 3]
    assert drafts(tokens, 3) == [7, 8, 6]
    assert drafts(tokens, 2) == [7, 8]
    assert not drafts(tokens, 0)
    assert not drafts([*tokens, 5], 10)


def test_what_repeats_itself_in_short_is_drafted_over_and_over() -> None:
    assert drafts([5, 6, 5, 6, 5, 6, 5], 3) == [6, 5, 6]


def test_the_length_of_a_draft_is_what_promises_the_most_tokens_a_second() -> None:
    # After 10 matches the rule of succession gives 11/12, 11/13, 11/14, ... accepted tokens at 1, 2, 3, ...
    lengths = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
    tokens = [*range(10), *range(100, 130), *range(10)]
    chances = np.cumsum([11 / (12 + i) for i in range(64)])
    for row in (0.05, 0.2, 0.5, 0.8):
        gains = [(1 + chances[n - 1]) / (1 + row * n) for n in lengths]
        expected = lengths[int(np.argmax(gains))] if max(gains) > 1.2 else 0
        assert len(drafts(tokens, 64, row)) == expected, row
    assert not drafts(tokens, 64, row=1.0)


def test_a_copied_text_is_drafted_in_ever_longer_pieces() -> None:
    tokens, drafter, costs = [*range(300), 900, 0, 1, 2], NgramDrafter(), KnownCosts(0.3)
    lengths = []
    while tokens[-1] < 130:
        draft = drafter.propose(tokens, 64, 1, costs)
        assert list(draft) == [*range(tokens[-1] + 1, tokens[-1] + 1 + len(draft))]
        lengths.append(len(draft))
        tokens += [*draft, tokens[-1] + len(draft) + 1]
    assert max(lengths) >= 24
    assert len(lengths) <= 10


def test_costs_are_learned_and_found_again() -> None:
    costs = StepCosts()
    assert costs.of(1) == 1.0
    for _ in range(50):
        costs.note(1, 0.010)
        costs.note(13, 0.067)
    assert costs.of(1) == pytest.approx(0.010, rel=0.02)
    assert costs.of(13) == pytest.approx(0.067, rel=0.02)
    assert costs.of(7) == pytest.approx(0.0385, rel=0.02)  # halfway between
    assert costs.of(33) == pytest.approx(
        0.067 + 20 * 0.00475, rel=0.02
    )  # by the last slope, lower than the first guess
    costs.note(13, 100.0)
    assert costs.of(13) < 0.1  # one disturbed step is not believed
    for _ in range(1000):
        costs.note(1, 0.010)
    assert costs.of(13) < 0.05  # and what was not seen for long is tried again


def test_what_other_requests_have_shown_is_believed_at_first() -> None:
    tokens, others = [*range(5), 50, *range(5)], Outcomes()
    drafted = len(NgramDrafter(others).propose(tokens, 64, 1, KnownCosts(0.3)))
    for _ in range(40):
        others.note(5, matches=False)
    assert drafted > 0
    assert not NgramDrafter(others).propose(tokens, 64, 1, KnownCosts(0.3))
    assert others.chance(5) == pytest.approx(4 * (6 / 7) / 44)
    assert Outcomes(others).chance(5) == pytest.approx(others.chance(5))


def test_a_draft_beside_other_requests_has_to_gain_more() -> None:
    tokens = [*range(20), 50, *range(20)]
    gains = {n: len(NgramDrafter().propose(tokens, 64, n, KnownCosts(0.5))) for n in (1, 4)}
    assert gains[1] > 0
    assert gains[4] == 0


def test_drafts_do_not_keep_other_requests_waiting() -> None:
    tokens, costs = [*range(200), 900, *range(150)], KnownCosts(0.02)
    alone, first, second = (
        len(NgramDrafter().propose(tokens, 64, n_rows, costs, n_drafted))
        for n_rows, n_drafted in ((1, 0), (4, 0), (4, 20))
    )
    assert alone == 64
    assert 0 < second < first < alone
    assert costs.of(4 + first) <= 1.5 * costs.of(4)
    assert costs.of(4 + 20 + second) <= 1.5 * costs.of(4)


def test_a_draft_beside_other_requests_is_not_far_longer_than_what_was_measured() -> None:
    costs = StepCosts()
    for rows in (1, 2, 4):
        costs.note(rows, 1.0)
    tokens = [*range(200), 900, *range(150)]
    assert len(NgramDrafter().propose(tokens, 64, 4, costs)) + 4 <= 2 * 4 + 1
    assert len(NgramDrafter().propose(tokens, 64, 1, costs)) > 16


def test_tokens_are_indexed_as_they_come() -> None:
    tokens = list(np.random.default_rng(0).integers(0, 4, 300))
    growing = NgramDrafter()
    for end in range(3, len(tokens)):
        at_once = NgramDrafter()
        assert growing._index(tokens[:end]) == at_once._index(tokens[:end])
        assert growing._followers == at_once._followers


def test_a_request_whose_drafts_are_refused_stops_drafting() -> None:
    drafter, costs, rng = NgramDrafter(), KnownCosts(0.2), np.random.default_rng(0)
    tokens, drafted = [], []
    for n in range(300):  # three known tokens, and then never what followed them before
        tokens += [1, 2, 3]
        drafted.append(len(drafter.propose(tokens, 64, 1, costs)))
        tokens.append(100 + n)
        drafter.propose(tokens, 64, 1, costs)
        tokens += [int(t) for t in rng.integers(1000, 10**6, 3)]
    assert sum(drafted[:10]) > 0
    assert not sum(drafted[20:])


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 17, 40])
def test_drafts_save_steps_and_change_no_token(max_tokens: int) -> None:
    answers, steps = [], []
    for kind in ("off", "ngram"):
        bench = bench_of(LoopingRunner(2), speculation=kind)
        bench.add(1, LOOP, max_tokens)
        bench.run()
        answers.append(bench.tokens(1))
        steps.append(len(bench.runner.steps))
        assert bench.chunks[1][-1].finish_reason == "length"
        usage, stats = bench.chunks[1][-1].usage, bench.scheduler.stats()
        assert usage.completion_tokens == stats.completion_tokens == max_tokens
        assert (usage.drafted_tokens, usage.accepted_tokens) == (stats.drafted_tokens, stats.accepted_tokens)
        assert stats.decode_tokens == max_tokens - 1
        assert stats.prefill_tokens == len(LOOP)
        assert steps[-1] == max_tokens - stats.accepted_tokens
    assert answers[0] == answers[1] == [100 + i % 20 for i in range(max_tokens)]
    assert steps[1] <= 1 + max(max_tokens // 4, 1)


def test_refused_tokens_leave_the_cache() -> None:
    bench = bench_of(ScriptedRunner(1))
    bench.add(1, [1, 2, 3, 50, 51, 1, 2], max_tokens=3)  # after 1 2 3 it says 4, not 50
    bench.run()
    assert bench.tokens(1) == [3, 4, 5]
    assert bench.scheduler.stats().drafted_tokens > 0
    assert bench.scheduler.stats().accepted_tokens == 0
    assert bench.runner.cache[0] == [1, 2, 3, 50, 51, 1, 2, 3, 4]
    bench.add(2, [1, 2, 3, 50, 51, 1, 2, 3, 4, 5, 600], max_tokens=2)
    bench.run()
    assert bench.tokens(2) == [601, 602]


def test_a_stop_string_and_an_end_token_inside_a_draft_end_the_answer_there() -> None:
    prompt = [*range(990, EOS), EOS, *range(990, 995)]
    for kind in ("off", "ngram"):
        bench = bench_of(ScriptedRunner(1), speculation=kind)
        bench.add(1, prompt, max_tokens=50)
        bench.run()
        assert bench.tokens(1) == [995, 996, 997, 998, EOS]
        assert bench.chunks[1][-1].finish_reason == "stop"
    bench = bench_of(LoopingRunner(1))
    bench.add(2, LOOP, max_tokens=50, stop=("k",))  # 114 is a k
    bench.run()
    assert bench.tokens(2) == [*range(100, 115)]
    assert bench.chunks[2][-1].finish_reason == "stop"
    assert bench.scheduler.stats().accepted_tokens > 0
    assert bench.runner.cache[0] == [*LOOP, *range(100, 114)]


def test_penalties_and_logprobs_see_every_position_as_without_drafts() -> None:
    found = []
    for kind in ("off", "ngram"):
        bench = bench_of(LoopingRunner(1), speculation=kind)
        bench.add(1, LOOP, max_tokens=60, frequency_penalty=2.0, presence_penalty=2.0, logprobs=2)
        bench.add(2, LOOP, max_tokens=60, repetition_penalty=1.5, logit_bias={100: -100.0})
        bench.run()
        found.append(bench.answers())
    assert found[0] == found[1]
    assert bench.scheduler.stats().accepted_tokens > 0


def test_a_constraint_refuses_what_is_drafted() -> None:
    for kind in ("off", "ngram"):
        bench = bench_of(LoopingRunner(1), speculation=kind)
        prompt = [100, 0, 0, 101, 7, *LOOP[:-1], 119, 100, 0, 0]
        bench.add(1, prompt, max_tokens=6, constraint=Only(lambda token: token % 2 == 0))
        bench.run()
        assert all(token % 2 == 0 for token in bench.tokens(1)), bench.tokens(1)
        assert len(bench.tokens(1)) == 6
    assert bench.scheduler.stats().drafted_tokens > 0


def test_a_request_can_be_cancelled_between_drafts_and_its_slot_used_again() -> None:
    bench = bench_of(LoopingRunner(1))
    bench.add(1, LOOP, max_tokens=500)
    bench.run(4)
    assert 0 < bench.scheduler.stats().accepted_tokens < 500
    bench.scheduler.cancel(1)
    bench.add(2, [*LOOP, 100, 101, 102], max_tokens=5)
    bench.run()
    assert bench.tokens(2) == [103, 104, 105, 106, 107]
    assert bench.scheduler.stats().running == 0


def test_an_error_inside_a_draft_ends_only_its_request() -> None:
    bench = bench_of(LoopingRunner(2))
    bench.add(1, LOOP, max_tokens=30)
    bench.add(2, LOOP, max_tokens=30)
    bench.run(1)
    broken = next(r for r in bench.scheduler._running if r.request.id == 1)

    class Failing:
        matcher = None
        left = 2

        def sample(self, logits: np.ndarray) -> int:
            self.left -= 1
            if not self.left:
                raise EngineError("NaN")
            return int(logits.argmax())

    broken.request.sampler = Failing()  # type: ignore[union-attr,assignment]
    bench.run()
    assert list(bench.failed) == [1]
    assert bench.tokens(2) == [100 + i % 20 for i in range(30)]


@pytest.mark.parametrize("error", [DoesNotFitError("no room"), EngineError("it cannot be moved")])
def test_a_draft_for_which_the_cache_has_no_room_is_left_out(error: Exception) -> None:
    bench = bench_of(LoopingRunner(2))
    bench.runner.has_room, bench.runner.no_room = lambda span: span.end <= 56, error
    bench.add(1, LOOP, max_tokens=500, stop=("jk",))  # tokens 113 and 114
    bench.add(2, range(200, 210))
    bench.run()
    assert not bench.failed
    assert bench.tokens(1) == [*range(100, 115)]
    assert bench.chunks[1][-1].finish_reason == "stop"
    assert bench.tokens(2) == list(range(210, 214))


def test_nothing_is_drafted_where_the_step_is_full_or_answers_must_not_depend_on_it() -> None:
    for n, limits in ((5, {}), (1, {"speculation": "off"}), (1, {"batch_invariant": True})):
        bench = bench_of(LoopingRunner(8), **limits)
        for i in range(n):
            bench.add(i, LOOP, max_tokens=20)
        bench.run()
        assert bench.scheduler.stats().drafted_tokens == 0
    bench = bench_of(LoopingRunner(8), n_batch=4)
    bench.add(1, LOOP, max_tokens=20)
    bench.run()
    assert max(n for step in bench.runner.steps for *_, n in step) == 4


def test_sampled_answers_keep_their_text_by_seed_and_their_distribution() -> None:
    prompt, n_tokens, n_seeds = [0, 1, 2, 0, 1, 2, 0, 1], 4, 2000
    answers: dict[str, list[tuple[int, ...]]] = {}
    for kind in ("off", "ngram"):
        bench = bench_of(NoisyRunner(4), speculation=kind)
        for seed in range(n_seeds):
            params = SamplingParams(temperature=1.0, seed=seed)
            answer = AnswerText(bench.runner.tokenizer.detokenizer(), ())
            sampler = Sampler(params, prompt, N_VOCAB)
            bench.scheduler.add(Generating(seed, [*prompt], n_tokens, params, sampler, answer))
            bench.run()
        answers[kind] = [tuple(bench.tokens(seed)) for seed in range(n_seeds)]
    assert answers["ngram"] == answers["off"]
    assert bench.scheduler.stats().accepted_tokens > 300
    statistic = 0.0
    counts = Counter(answers["ngram"])
    for text in itertools.product(range(3), repeat=n_tokens):
        pairs = itertools.pairwise((prompt[-1], *text))
        expected = n_seeds * float(np.prod([NoisyRunner.chances[a, b] for a, b in pairs]))
        statistic += (counts[text] - expected) ** 2 / expected
    assert statistic < 80 + 4 * (2 * 80) ** 0.5, "chi-square with 80 degrees of freedom, four deviations"
