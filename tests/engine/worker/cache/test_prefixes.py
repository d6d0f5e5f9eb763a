"""Conversations that leave their slot and come back to another."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lqmf_runner.engine.protocol import PromptCacheChanged
from lqmf_runner.engine.worker.cache import prompts
from lqmf_runner.engine.worker.drafting import Drafting
from lqmf_runner.engine.worker.runners.base import Span
from lqmf_runner.engine.worker.scheduler import Scheduler, SchedulerLimits
from lqmf_runner.errors import EngineError
from lqmf_runner.types import PromptCacheUse
from tests.support.engine.scheduling import N_VOCAB, Bench, ScriptedRunner

TOKEN_BYTES = 8


class KeepingRunner(ScriptedRunner):
    """The next token follows from all tokens in the slot; a token takes eight bytes."""

    keeps_prefixes = True

    def __init__(self, max_slots: int) -> None:
        super().__init__(max_slots)
        self.saves = self.restores = 0
        self.damaged = False

    def step(self, batch: Sequence[Span]) -> np.ndarray:
        before = {span.slot: list(self.cache[span.slot][: span.start]) for span in batch}
        super().step(batch)
        rows = []
        for span in batch:
            seen = [*before[span.slot], *span.tokens]
            first = len(seen) - span.n_rows
            rows += [
                np.eye(N_VOCAB, dtype=np.float32)[follower(seen[: first + i + 1])] for i in range(span.n_rows)
            ]
        return np.array(rows, np.float32).reshape(-1, N_VOCAB) * 50

    def saved_bytes(self, slot: int, n: int) -> int:
        assert len(self.cache[slot]) == n
        return n * TOKEN_BYTES

    def save(self, slot: int, n: int, memory: np.ndarray) -> None:
        self.saves += 1
        memory.view(np.int64)[:] = self.cache[slot]

    def restore(self, slot: int, n: int, memory: np.ndarray) -> None:
        if self.damaged:
            raise EngineError("unreadable")
        self.restores += 1
        self.cache[slot] = memory.view(np.int64).tolist()
        assert len(self.cache[slot]) == n


def follower(tokens: Sequence[int]) -> int:
    return sum((i + 1) * token for i, token in enumerate(tokens)) % (N_VOCAB - 1)


def answer(prompt: Sequence[int], n: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(n):
        tokens.append(follower(tokens))
    return tokens[len(prompt) :]


class KeepingBench(Bench):
    def __init__(self, max_slots: int = 1, **limits: Any) -> None:
        super().__init__()
        self.use = PromptCacheUse()
        self.runner: KeepingRunner = KeepingRunner(max_slots)
        self.scheduler = Scheduler(self.runner, SchedulerLimits(**limits), self._take)

    def _take(self, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, PromptCacheChanged):
                self.use = event.use
        super()._take([event for event in events if not isinstance(event, PromptCacheChanged)])

    def ask(self, request_id: int, prompt: Sequence[int], max_tokens: int = 4) -> int:
        """Run one request, check its answer, and return how many of its tokens came from a cache."""
        self.add(request_id, prompt, max_tokens)
        self.run()
        assert self.tokens(request_id) == answer(prompt, max_tokens)
        usage = self.chunks[request_id][-1].usage
        assert usage is not None
        return usage.cached_tokens


def story(number: int, n: int = 60) -> list[int]:
    return [(37 * number + i * (number + 3)) % 900 for i in range(n)]


def test_a_conversation_comes_back_after_others_had_its_slot() -> None:
    bench = KeepingBench(max_slots=2)
    first = [*story(1), *answer(story(1), 4)]
    bench.ask(0, story(1))
    for other in range(2, 12):
        assert bench.ask(other, story(other)) == 0
    assert bench.ask(100, [*first, 5, 6]) == len(first) - 1, "its last token was chosen, not computed"
    assert (bench.runner.restores, bench.use.hits, bench.use.restored_tokens) == (1, 1, 63)
    assert bench.use.prompts == 9, "all but what is in the two slots"


def test_turns_of_a_conversation_in_its_slot_are_not_copied() -> None:
    bench = KeepingBench(max_slots=2)
    tokens = story(1)
    for turn in range(6):
        tokens += answer(tokens, 4)
        bench.ask(turn, tokens[: len(tokens) - 4])
        tokens += [turn] * 10
    assert bench.runner.saves == 0


def test_an_edited_turn_takes_the_part_before_it() -> None:
    bench = KeepingBench()
    bench.ask(0, story(1))
    bench.ask(1, story(2))
    assert bench.ask(2, [*story(1)[:45], *range(30)]) == 45
    bench.ask(3, story(3))
    assert bench.ask(4, [*story(1), 8, 9]) == 60, "the old continuation is still there"


def test_a_slot_that_has_almost_as_much_is_taken() -> None:
    for more, restores in ((20, 0), (40, 1)):
        bench = KeepingBench(max_slots=2)
        shared = story(1, 100)
        bench.ask(0, [*shared, *story(10, more)])
        for i in (2, 3):
            bench.ask(i, story(i))
        bench.ask(4, shared[:90])
        assert bench.runner.restores == 1
        assert bench.ask(5, [*shared[:90], *shared[90:], *story(10, more), 3, 4]) >= 90
        assert bench.runner.restores == 1 + restores


def test_random_conversations_under_a_tiny_budget_are_answered_as_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = random.Random(1)
    monkeypatch.setattr(prompts, "_free_bytes", lambda: 1 << 40)
    for budget in (0.0, 0.0002, 0.002, 0.02):
        bench = KeepingBench(max_slots=2, prompt_cache_mb=budget)
        talks = [story(n, 40) for n in range(8)]
        for i in range(120):
            talk = rng.randrange(8)
            if len(talks[talk]) > 150 or rng.random() < 0.1:
                talks[talk] = talks[talk][: rng.randrange(40, 60)]
            talks[talk] += [rng.randrange(900) for _ in range(rng.randrange(1, 20))]
            bench.ask(i, talks[talk])
            talks[talk] += answer(talks[talk], 4)
            assert bench.use.mb <= budget
        assert (bench.use.hits > 0) == (budget > 0.001)


def test_reset_empties_main_memory_too_and_shrinking_a_part_of_it() -> None:
    bench = KeepingBench()
    for i in range(5):
        bench.ask(i, story(i))
    assert bench.use.prompts == 4
    bench.scheduler.shrink_prompt_cache(2 * 70 * TOKEN_BYTES)
    assert bench.use.prompts == 2
    bench.scheduler.reset_prefix_cache()
    assert (bench.use.prompts, bench.use.mb) == (0, 0)
    assert [bench.ask(10 + i, story(i)) for i in range(3)] == [0, 0, 0]


def test_scored_texts_are_not_kept_and_drop_no_conversation() -> None:
    bench = KeepingBench(n_batch=300)
    bench.ask(0, story(1))
    for i in range(3):
        bench.score(10 + i, story(20 + i, 80))
        bench.run()
    assert bench.use.prompts == 1
    bench.ask(1, story(2))
    assert bench.use.prompts == 1
    assert bench.ask(2, [*story(1), 5, 6]) == 60


def test_nothing_is_kept_where_it_is_off() -> None:
    for limits in ({"prompt_cache_mb": 0}, {"prefix_reuse": False}):
        bench = KeepingBench(**limits)
        bench.ask(0, story(1))
        bench.ask(1, story(2))
        assert bench.ask(2, story(1)) == 0
        assert (bench.runner.saves, bench.use) == (0, PromptCacheUse())


def test_a_copy_that_cannot_be_read_is_computed_again() -> None:
    bench = KeepingBench()
    bench.ask(0, story(1))
    bench.ask(1, story(2))
    bench.runner.damaged = True
    assert bench.ask(2, [*story(1), 5, 6]) == 0
    bench.runner.damaged = False
    assert bench.ask(3, story(3)) == 0
    assert bench.ask(4, [*story(1), 5, 6, 7, 8]) == 62, "the entry that failed is replaced"


def test_a_request_cancelled_once_its_prefix_is_back_leaves_it_in_the_slot() -> None:
    bench = KeepingBench(n_batch=16)
    bench.ask(0, story(1))
    bench.ask(1, story(2))
    bench.add(2, [*story(1), *range(50)])
    bench.run(2)
    bench.scheduler.cancel(2)
    bench.run()
    assert bench.ask(3, [*story(1), *range(50)]) > 60
    assert bench.runner.restores == 1


def test_a_failed_step_drops_its_slot_and_no_entry() -> None:
    bench = KeepingBench()
    for i in (1, 2):
        bench.ask(i, story(i))
    bench.runner.fail_next = RuntimeError("boom")
    bench.add(3, story(3))
    bench.run()
    assert list(bench.failed) == [3]
    assert bench.ask(4, [*story(1), 5, 6]) == 60
    assert bench.ask(5, [*story(2), 5, 6]) == 60


def test_the_kv_cache_gets_the_memory_if_it_needs_more() -> None:
    bench = KeepingBench()
    for i in (1, 2):
        bench.ask(i, story(i))
    bench.runner.has_room = lambda span: not bench.scheduler._prefixes.prompts.n_bytes
    assert bench.ask(3, story(3)) == 0
    assert (bench.failed, bench.use.prompts) == ({}, 0)
    bench.scheduler.reset_prefix_cache()
    bench.runner.has_room = lambda span: False
    bench.add(4, story(4))
    bench.run()
    assert bench.failed[4].kind == "DoesNotFitError"


def test_prompts_stay_in_main_memory_if_the_kv_cache_lacks_room_for_a_draft_only() -> None:
    bench, prompt = KeepingBench(), [0, *[*range(20)] * 4]
    prompt[0] = -follower(prompt) % (N_VOCAB - 1)  # the answer begins with 0, as if it went on
    for i in (1, 2):
        bench.ask(i, story(i))
    bench.scheduler._drafting = Drafting(512)  # costs of steps as they are guessed, whatever the clock says
    asked, room = list[int](), len(prompt) + 3
    bench.runner.has_room = lambda span: not asked.append(span.end) and span.end <= room
    said = "".join(map(bench.runner.tokenizer.token_text, answer(prompt, 3)))
    bench.add(3, prompt, max_tokens=100, stop=(said,))
    bench.run()
    assert max(asked) > room, "there was a draft"
    assert (bench.failed, bench.tokens(3)) == ({}, answer(prompt, 3))
    assert bench.use.prompts == 2
