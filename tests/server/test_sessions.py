from __future__ import annotations

import pytest

from lqmf_runner.errors import ConflictError, InvalidRequestError
from lqmf_runner.server.sessions import Sessions
from lqmf_runner.types import Message


def test_sessions_are_bounded_and_expire():
    now = 0.0
    sessions = Sessions(limit=2, max_messages=5, timeout_s=10, clock=lambda: now)

    def say(name: str) -> int:
        with sessions.turn(("", "m", name), (Message("user", "x"),)) as turn:
            turn.answered("y")
        return len(turn.messages)

    assert [say("a"), say("a")] == [1, 3]
    with pytest.raises(InvalidRequestError, match="would have 6 messages, at most 5"):
        say("a")
    say("b")
    say("c")  # the third: "a" goes, as the longest unused
    assert say("b") == 3
    assert say("a") == 1
    now = 11.0
    assert len(sessions) == 0
    assert say("a") == 1
    with sessions.turn(("", "m", "a"), ()), pytest.raises(ConflictError):
        say("a")


def test_a_turn_that_comes_to_nothing_pushes_no_session_out():
    sessions = Sessions(limit=1, max_messages=9, timeout_s=10, clock=lambda: 0.0)

    def say(name: str, answer: str | None) -> int:
        with sessions.turn(("", "m", name), (Message("user", "x"),)) as turn:
            if answer:
                turn.answered(answer)
        return len(turn.messages)

    say("mine", "y")
    for number in range(5):
        say(f"another {number}", None)
    assert say("mine", "y") == 3
    say("another", "y")
    assert say("mine", "y") == 1
    assert len(sessions) == 1


def test_neither_the_limit_nor_the_time_takes_a_busy_session_but_its_owner_may():
    now = 0.0
    sessions = Sessions(limit=1, max_messages=9, timeout_s=10, clock=lambda: now)
    busy, other = ("", "m", "busy"), ("", "m", "other")
    with sessions.turn(busy, (Message("user", "x"),)) as turn:
        with sessions.turn(other, (Message("user", "x"),)) as second:
            second.answered("y")
        now = 20.0
        turn.answered("y")
    with sessions.turn(busy, (Message("user", "z"),)) as turn:
        assert len(turn.messages) == 3
        assert sessions.forget(busy)
        turn.answered("y")
    assert len(sessions) == 0
