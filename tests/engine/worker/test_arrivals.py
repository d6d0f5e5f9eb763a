"""How long an idle worker waits for requests that were sent together."""

from __future__ import annotations

from lqmf_runner.engine.worker.arrivals import Arrivals


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def after(*peaks: int) -> tuple[Arrivals, Clock]:
    """The waits of a worker that has had so many requests at a time, one busy period after the other."""
    clock = Clock()
    arrivals = Arrivals(clock)
    for peak in peaks:
        arrivals.begin()
        for n_requests in (1, peak, 1):
            arrivals.note(n_requests)
    arrivals.begin()
    return arrivals, clock


def test_the_first_request_of_all_starts_at_once() -> None:
    arrivals, _ = after()
    assert arrivals.patience(1) == 0


def test_a_request_starts_at_once_after_one_at_a_time() -> None:
    arrivals, _ = after(4, 1)
    assert arrivals.patience(1) == 0


def test_as_many_are_waited_for_as_there_were_at_a_time() -> None:
    arrivals, _ = after(4)
    assert [arrivals.patience(n) > 0 for n in (1, 2, 3, 4, 5)] == [True, True, True, False, False]


def test_the_wait_ends_ten_milliseconds_after_the_first_request() -> None:
    arrivals, clock = after(16)
    waits = []
    while wait := arrivals.patience(1):
        waits.append(wait)
        clock.now += wait
    assert max(waits) <= 0.002
    assert abs(sum(waits) - 0.01) < 1e-9
