"""Continuous batching on a runner whose every step is written down."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lqmf_runner.engine.worker.request import chunk_size
from lqmf_runner.engine.worker.runners.base import Span
from lqmf_runner.engine.worker.scheduler import Scheduler, SchedulerLimits
from lqmf_runner.errors import DoesNotFitError, EngineError, QueueFullError
from tests.support.engine.scheduling import EOS, Bench, EightAtOnce


def test_answers_are_right_whatever_the_chunks_and_slots() -> None:
    prompts = [
        list(range(start, start + n))
        for start, n in ((0, 1), (10, 40), (10, 55), (200, 7), (10, 40), (500, 130))
    ]
    for max_slots in (1, 2, 8):
        for n_batch, prefill_chunk in ((8, 3), (64, 16), (512, 128)):
            for reuse in (True, False):
                bench = Bench(max_slots, n_batch=n_batch, prefill_chunk=prefill_chunk, prefix_reuse=reuse)
                for i, prompt in enumerate(prompts):
                    bench.add(i, prompt)
                bench.run()
                for i, prompt in enumerate(prompts):
                    assert bench.tokens(i) == [prompt[-1] + k for k in range(1, 5)]
                    assert bench.chunks[i][-1].finish_reason == "length"
                assert all(sum(n for *_, n in step) <= n_batch for step in bench.runner.steps)


def test_a_prompt_alone_takes_the_whole_step() -> None:
    bench = Bench(n_batch=64, prefill_chunk=8)
    bench.add(1, range(150), max_tokens=2)
    bench.run()
    assert [step[0][2] for step in bench.runner.steps] == [64, 64, 22, 1]


def test_a_prompt_beside_running_requests_gets_a_small_chunk_and_they_go_on_every_step() -> None:
    bench = Bench(n_batch=64, prefill_chunk=8)
    bench.add(1, [5], max_tokens=50)
    bench.run(2)
    bench.add(2, range(100, 140), max_tokens=2)
    before = len(bench.runner.steps)
    bench.run(5)
    during = bench.runner.steps[before:]
    assert [{slot: n for slot, _, n in step} for step in during] == [{0: 1, 1: 8}] * 5
    bench.run()
    assert bench.tokens(2) == [140, 141]
    assert bench.tokens(1) == list(range(6, 56))


def test_a_prompt_that_begins_like_one_being_computed_waits_and_reuses_it() -> None:
    bench = Bench(n_batch=32, prefill_chunk=32)
    shared = list(range(97))
    for i in range(3):
        bench.add(i, [*shared, 200 + 10 * i])
    bench.run()
    assert [bench.chunks[i][-1].usage.cached_tokens for i in range(3)] == [0, 96, 96]
    assert [bench.tokens(i)[0] for i in range(3)] == [201, 211, 221]
    computed = sum(n for step in bench.runner.steps for *_, n in step)
    assert computed == 98 + 2 + 2 + 3 * 3


@pytest.mark.parametrize(("least", "most"), [*((2, n) for n in range(3, 12)), (8, 15), (8, 16), (8, 40)])
def test_no_few_tokens_of_a_prompt_are_computed_by_themselves(least: int, most: int) -> None:
    for left in range(least, 90):
        sizes = []
        while left:
            sizes.append(chunk_size(left, most, least))
            left -= sizes[-1]
        assert all(least <= size <= most for size in sizes)
    assert chunk_size(least - 1, most, least) == least - 1
    assert [chunk_size(left, 1) for left in (1, 2, 9)] == [1, 0, 0]


def test_prompts_go_on_whatever_the_least_chunk_of_the_runner() -> None:
    bench = Bench(n_batch=4, prefill_chunk=4)
    bench.scheduler = Scheduler(EightAtOnce(4), SchedulerLimits(n_batch=4, prefill_chunk=4), bench._take)
    bench.runner = bench.scheduler._runner
    for i in range(3):
        bench.add(i, range(100 * i, 100 * i + 17 + i))
    bench.run(100)
    assert all(len(bench.tokens(i)) == 4 for i in range(3))
    assert all(n == 1 or n >= 8 for step in bench.runner.steps for *_, n in step)


def test_decode_tokens_go_out_before_the_prompts_of_a_step_where_the_runner_does_not_mix_them() -> None:
    bench = Bench(n_batch=32, prefill_chunk=32)
    bench.runner.mixes_prompts = False
    bench.add(1, range(10))
    bench.run(1)
    bench.add(2, range(500, 510))
    bench.run(1)
    *_, decode, prompt = bench.runner.steps
    assert [n for *_, n in decode] == [1]
    assert [n for *_, n in prompt] == [10]


def test_a_complete_answer_does_not_wait_for_the_prompts_after_it_and_first_tokens_go_out_together() -> None:
    bench = Bench(n_batch=64)
    bench.runner.mixes_prompts = False
    bench.add(1, range(10), max_tokens=1)
    for i in (2, 3):
        bench.add(i, range(100 * i, 100 * i + 10))
    bench.run(1)
    assert bench.frames == [[1], [2, 3]]
    assert [len(step) for step in bench.runner.steps] == [1, 2]


def test_a_whole_answer_is_sent_as_its_first_token_and_the_rest() -> None:
    bench = Bench()
    for i, whole in ((1, False), (2, True)):
        bench.add(i, [100, 101], max_tokens=6, whole=whole, logprobs=2, stop=("d",))
    bench.run()
    for part in ("text", "token_ids", "logprobs"):
        streamed, held = ([getattr(chunk, part) for chunk in bench.chunks[i]] for i in (1, 2))
        assert len(streamed) == 6
        assert len(held) == 2
        empty = type(held[0])()
        assert (
            sum(held, empty) == sum(streamed, empty) if part != "text" else "".join(held) == "".join(streamed)
        )
    assert bench.chunks[2][-1].finish_reason == bench.chunks[1][-1].finish_reason == "stop"
    assert bench.chunks[2][-1].usage is not None


def test_short_prompts_get_more_of_a_step_where_more_of_them_wait_than_requests_decode() -> None:
    for length, expected in ((8, [1, 8, 8, 8]), (12, [1, 8])):
        bench = Bench(n_batch=64, prefill_chunk=8)
        bench.add(1, range(10))
        bench.run(1)
        for i in range(3):
            bench.add(2 + i, range(100 * i + 100, 100 * i + 100 + length))
        bench.run(1)
        assert sorted(n for *_, n in bench.runner.steps[-1]) == expected


def test_others_do_not_wait_for_a_prompt_that_is_being_computed() -> None:
    bench = Bench(n_batch=32, prefill_chunk=32)
    bench.add(1, range(200))
    bench.add(2, [*range(150), 500])
    bench.add(3, [700, 701])
    bench.run(1)
    stats = bench.scheduler.stats()
    assert (stats.running, stats.waiting) == (2, 1)
    bench.run()
    assert bench.tokens(3) == [702, 703, 704, 705]


def test_who_waited_for_a_failed_prompt_is_answered() -> None:
    bench = Bench(n_batch=32)
    bench.add(1, [*range(100), 200])
    bench.add(2, [*range(100), 300])
    bench.runner.fail_next = RuntimeError("boom")
    bench.run()
    assert list(bench.failed) == [1]
    assert bench.tokens(2) == [301, 302, 303, 304]
    assert bench.chunks[2][-1].usage.cached_tokens == 0


def test_a_request_cancelled_while_it_waits_never_runs() -> None:
    bench = Bench(max_slots=1)
    bench.add(1, [5])
    bench.add(2, [50])
    bench.run(1)
    bench.scheduler.cancel(2)
    bench.run()
    assert 2 not in bench.chunks
    assert bench.scheduler.stats().requests == 1


def test_a_request_cancelled_while_it_runs_costs_no_further_step() -> None:
    bench = Bench(max_slots=1)
    bench.add(1, [5], max_tokens=1000)
    bench.run(3)
    bench.scheduler.cancel(1)
    bench.add(2, [50])
    bench.run()
    assert bench.tokens(1) == [6, 7, 8]
    assert bench.tokens(2) == [51, 52, 53, 54]
    assert len(bench.runner.steps) == 3 + 4


def test_a_prompt_cancelled_half_way_leaves_a_cache_that_can_be_reused() -> None:
    bench = Bench(max_slots=1, n_batch=16)
    bench.add(1, range(64))
    bench.run(2)
    bench.scheduler.cancel(1)
    bench.add(2, range(64))
    bench.run()
    assert bench.chunks[2][-1].usage.cached_tokens == 32
    assert bench.tokens(2) == [64, 65, 66, 67]


def test_cancelling_the_unknown_or_finished_harms_nothing() -> None:
    bench = Bench()
    bench.add(1, [5])
    bench.scheduler.cancel(99)
    bench.run()
    bench.scheduler.cancel(1)
    bench.add(2, [7])
    bench.run()
    assert bench.tokens(2) == [8, 9, 10, 11]


def test_a_failing_step_fails_its_requests_and_the_next_works() -> None:
    bench = Bench(max_slots=2)
    for i in range(3):
        bench.add(i, [10 * i, 10 * i + 1])
    bench.run(1)
    bench.runner.fails = lambda batch: True
    bench.run(1)
    bench.runner.fails = lambda batch: False
    bench.run()
    assert sorted(bench.failed) == [0, 1]
    assert bench.failed[0].kind == "EngineError"
    assert "boom" in bench.failed[0].message
    assert bench.tokens(2) == [22, 23, 24, 25]
    bench.add(7, [0, 1])
    bench.run()
    assert bench.chunks[7][-1].usage.cached_tokens == 0, "the cache of a failed step is not trusted"


def test_nan_fails_only_its_own_request(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    plain = bench.runner.step

    def step(batch: Sequence[Span]) -> np.ndarray:
        logits = plain(batch)
        row = 0
        for span in batch:
            if span.slot == 0 and span.n_rows:
                logits[row] = np.nan
            row += span.n_rows
        return logits

    monkeypatch.setattr(bench.runner, "step", step)
    bench.add(1, [5])
    bench.add(2, [50])
    bench.run()
    assert "NaN" in bench.failed[1].message
    assert bench.tokens(2) == [51, 52, 53, 54]


def test_the_queue_has_an_end() -> None:
    bench = Bench(max_slots=1, max_queue=2)
    bench.add(0, [5], max_tokens=50)
    bench.run(1)
    bench.add(1, [6])
    bench.add(2, [7])
    with pytest.raises(QueueFullError, match="2 requests wait"):
        bench.add(3, [8])
    bench.run()
    assert bench.tokens(2) == [8, 9, 10, 11]


def test_requests_start_in_order_of_arrival() -> None:
    bench = Bench(max_slots=2)
    for i in range(6):
        bench.add(i, [100 * i + 1])
    bench.run()
    assert list(bench.chunks) == list(range(6))


def test_the_end_of_sequence_ends_an_answer_unless_ignored() -> None:
    bench = Bench()
    bench.add(1, [EOS - 3], max_tokens=10)
    bench.add(2, [EOS - 3], max_tokens=4, ignore_eos=True)
    bench.run()
    assert bench.tokens(1) == [EOS - 2, EOS - 1, EOS]
    assert bench.chunks[1][-1].finish_reason == "stop"
    assert bench.chunks[1][-1].text == ""
    assert bench.chunks[1][-1].usage.completion_tokens == 3
    assert bench.tokens(2) == [EOS - 2, EOS - 1, EOS, 0]


def test_a_stop_string_ends_the_answer_at_its_token() -> None:
    bench = Bench()
    bench.add(1, [0], max_tokens=20, stop=("ef",))
    bench.run()
    assert "".join(chunk.text for chunk in bench.chunks[1]) == "bcd"
    assert bench.tokens(1) == [1, 2, 3, 4, 5]
    assert bench.chunks[1][-1].finish_reason == "stop"


def test_scores_come_from_every_position_and_reuse_nothing() -> None:
    bench = Bench(n_batch=300)
    tokens = [*range(290), 500, 501]
    bench.add(1, range(290))
    bench.run()
    bench.score(2, tokens)
    bench.run()
    score = bench.replies[2]
    assert score.token_ids == tuple(tokens)
    assert score.greedy == (None, *([True] * 289), False, True)
    assert score.logprobs[1] == pytest.approx(0.0, abs=1e-6)
    assert score.logprobs[290] == pytest.approx(-50.0, abs=1e-3)
    bench.score(3, [7])
    bench.run()
    assert bench.replies[3].logprobs == (None,)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DoesNotFitError("no room"), "DoesNotFitError"),
        (EngineError("what the slots hold cannot be moved"), "EngineError"),
        (MemoryError(), "DoesNotFitError"),
    ],
)
def test_a_request_that_the_cache_cannot_grow_for_fails_and_the_others_go_on(
    error: Exception, kind: str
) -> None:
    bench = Bench(n_batch=256, prefill_chunk=64)
    bench.runner.no_room = error
    bench.add(1, range(30), max_tokens=20)
    bench.run(2)
    bench.runner.has_room = lambda span: span.end <= 48
    bench.add(2, range(200, 260))
    bench.add(3, range(300, 310))
    bench.run(1)
    assert bench.failed[2].kind == kind
    bench.run()
    assert list(bench.failed) == [2, 1]
    assert bench.tokens(1) == list(range(30, 49)), "it had room for these"
    assert bench.tokens(3) == list(range(310, 314))
    bench.runner.has_room = lambda span: True
    bench.add(4, range(200, 260))
    bench.run()
    assert bench.tokens(4) == list(range(260, 264))


def test_stats_tell_prompt_decode_and_mixed_steps_apart() -> None:
    bench = Bench(n_batch=64, prefill_chunk=8)
    bench.add(1, range(80), max_tokens=4)
    bench.run(3)  # 64, then 16 and the first token, then one token
    bench.add(2, range(500, 512), max_tokens=2)
    bench.run()  # 1 + 8, 1 + 4, then one token of the second
    stats = bench.scheduler.stats()
    assert (stats.requests, stats.prompt_tokens, stats.cached_tokens) == (2, 92, 0)
    assert stats.completion_tokens == 6
    assert stats.prefill_tokens == 80
    assert (stats.decode_tokens, stats.decode_steps) == (2, 2)
    assert (stats.mixed_steps, stats.mixed_prefill_tokens, stats.mixed_decode_tokens) == (2, 12, 2)
    assert min(stats.prefill_s, stats.decode_s, stats.mixed_s) > 0
    assert (stats.running, stats.waiting) == (0, 0)


def test_usage_times_add_up() -> None:
    bench = Bench()
    bench.add(1, range(40), max_tokens=5)
    bench.run()
    usage = bench.chunks[1][-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (40, 5)
    assert usage.queue_s >= 0
    assert usage.prefill_s > 0
    assert usage.decode_s > 0


def test_a_turn_of_a_conversation_reuses_the_answer_before_it() -> None:
    bench = Bench()
    bench.add(1, range(40), max_tokens=5)
    bench.run()
    bench.add(2, [*range(45), 600], max_tokens=2)
    bench.run()
    # The last token of the answer was sampled, not computed.
    assert bench.chunks[2][-1].usage.cached_tokens == 44
    assert bench.tokens(2) == [601, 602]
