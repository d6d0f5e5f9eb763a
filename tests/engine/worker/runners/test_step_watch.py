"""A step that hangs is told from steps that go on, from rest, and from a front that does not read."""

from __future__ import annotations

import threading

from lqmf_runner.engine.worker.runners.step_watch import LOOKS, StepWatch


def test_only_a_step_that_stays_the_same_hangs() -> None:
    watch = StepWatch(None, lambda: None)
    assert not any(watch.look() for _ in range(3 * LOOKS)), "at rest"
    for _ in range(3 * LOOKS):
        with watch:
            assert not watch.look()
    with watch:
        assert not any(watch.look() for _ in range(LOOKS))
        assert watch.look()


def test_waiting_for_the_front_is_no_part_of_a_step() -> None:
    watch = StepWatch(1000.0, lambda: None)
    sent = []

    def send(events: str) -> None:
        sent.append(events)
        assert not any(watch.look() for _ in range(3 * LOOKS)), "it waits until the front reads"

    emit = watch.outside(send)
    emit("an event between steps")
    with watch:
        emit("an event of a step")
        assert not any(watch.look() for _ in range(LOOKS)), "the step began again"
        assert watch.look()
    assert len(sent) == 2


def test_another_thread_says_that_a_step_hangs() -> None:
    hangs = threading.Event()
    with StepWatch(0.01, hangs.set):
        assert hangs.wait(30)
