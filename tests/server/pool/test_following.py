from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from lqmf_runner.server.pool.following import DOWN_S, EVERY_S, UP_S, Follower

SLOTS = 4


def follow(load: Callable[[float], int], seconds: float, *, low: int = 1, high: int = 8) -> list[int]:
    """The number of replicas at each look at a queue of `load(time)` requests."""
    follower, present, seen = Follower(low, high), low, []
    for look in range(int(seconds / EVERY_S)):
        present = follower.wanted(look * EVERY_S, present, load(look * EVERY_S), SLOTS)
        seen.append(present)
    return seen


def test_it_grows_when_requests_wait_to_as_many_as_have_slots_for_all_and_doubles_at_most():
    seen = follow(lambda _: 30, 3 * UP_S)
    assert seen[: int(UP_S / EVERY_S)] == [1] * int(UP_S / EVERY_S)
    assert sorted(set(seen)) == [1, 2, 4]
    assert follow(lambda _: 30, 10 * UP_S)[-1] == 8


def test_a_moment_of_waiting_changes_nothing():
    assert set(follow(lambda t: 12 if t % UP_S < EVERY_S else 3, 30)) == {1}


def test_it_shrinks_one_by_one_after_a_quiet_time():
    seen = follow(lambda t: 30 if t < 20 else 0, 20 + 8 * DOWN_S + 10)
    assert max(seen) == 8
    assert seen[-1] == 1
    assert all(after >= before - 1 for before, after in pairwise(seen))
    assert seen[int((20 + DOWN_S / 2) / EVERY_S)] == 8


def test_a_steady_load_does_not_swing():
    for load in range(0, 33, 2):
        seen = follow(lambda _, load=load: load, 20 * DOWN_S)
        changes = sum(a != b for a, b in pairwise(seen))
        assert changes == len(set(seen)) - 1  # in one direction only


def test_bursts_with_quiet_times_between_end_nothing():
    seen = follow(lambda t: 16 if t % 50 < 10 else 0, 600)
    assert set(seen[int(20 / EVERY_S) :]) == {4}


def test_the_bounds_are_kept():
    assert set(follow(lambda _: 1000, 60, low=2, high=3)) == {2, 3}
    assert set(follow(lambda _: 0, 5 * DOWN_S, low=2, high=3)) == {2}
