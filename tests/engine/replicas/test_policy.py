from __future__ import annotations

import pytest

from lqmf_runner.engine.replicas.policy import SILENT_S, SLOW, Candidate, choose, slowness


def test_the_least_work_counts_and_not_the_fewest_requests():
    one_long_request, five_short_ones = Candidate(work=4000), Candidate(work=5 * 60)
    assert choose([one_long_request, five_short_ones], 10, 100) == 1


def test_a_long_held_prefix_outweighs_a_little_more_work():
    assert choose([Candidate(work=0), Candidate(work=300, held=500)], 520, 64) == 1


def test_a_held_prefix_does_not_outweigh_a_queue():
    assert choose([Candidate(work=0), Candidate(work=3000, held=500)], 520, 64) == 0


def test_a_shared_system_prompt_does_not_fill_one_replica_while_others_are_idle():
    work, held = [0.0] * 4, [0] * 4
    for _ in range(8):
        at = choose([Candidate(work=w, held=h) for w, h in zip(work, held, strict=True)], 120, 200)
        work[at] += 120 - held[at] + 200
        held[at] = 100
    assert max(work) <= 2 * 320


def test_a_new_prompt_does_not_go_to_a_busy_replica_that_holds_few_prompts():
    """sgl-project/sglang#14532: the smallest cache was preferred, however busy its worker was."""
    assert choose([Candidate(work=5000, prompts=1), Candidate(work=0, prompts=40)], 200, 100) == 1


def test_one_busy_replica_does_not_end_affinity_for_the_others():
    candidates = [Candidate(work=50_000), Candidate(work=100), Candidate(work=200, held=800)]
    assert choose(candidates, 820, 64) == 2


def test_between_equals_the_one_with_the_fewest_conversations_wins():
    assert choose([Candidate(0, prompts=3), Candidate(0, prompts=1), Candidate(0, prompts=1)], 10, 10) == 1


def test_a_slow_replica_gets_less():
    assert choose([Candidate(work=0, slowness=10), Candidate(work=400)], 10, 100) == 1


def test_held_is_never_more_than_the_prompt():
    assert choose([Candidate(work=0), Candidate(work=200, held=10_000)], 16, 64) == 0


@pytest.mark.parametrize(
    ("pace", "others", "silent", "expected"),
    [
        (0.02, [0.02, 0.02], 0.0, 1.0),
        (0.05, [0.02, 0.02], 0.0, 1.0),  # within what load explains
        (0.1, [0.02, 0.02], 0.0, 5.0),
        (None, [0.02], 0.0, 1.0),
        (0.1, [], 0.0, 1.0),  # nobody to compare with
        (0.1, [0.01, 0.02, 0.03, 0.2], 0.0, 4.0),  # the median of four is between two
        (0.02, [0.02], 2 * SILENT_S, 2 * SLOW),
    ],
)
def test_slow_is_what_is_clearly_slower_than_the_others(pace, others, silent, expected):
    paces = sorted([*others, *([pace] if pace else [])])
    assert slowness(pace, paces, silent) == pytest.approx(expected)
