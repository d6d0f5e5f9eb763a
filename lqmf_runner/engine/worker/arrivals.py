"""Lets requests that are sent together start together.

They reach an idle worker a millisecond apart. If the first prompt were computed at once, the others would be computed
while its answer waits for the second token: the longest gap of the whole answer. So the worker waits a moment for
others, but only if it has just had several requests at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_LONGEST_GAP_S = 0.002  # between two requests that were sent together
_LONGEST_WAIT_S = 0.01


class Arrivals:
    """How long an idle worker waits for further requests once the first has arrived.

    Args:
        clock: gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._peak = self._expected = 0
        self._deadline = 0.0

    def begin(self) -> None:
        """The worker was idle, and a request has arrived. As many are expected as there were at most before that."""
        self._expected, self._peak = self._peak, 0
        self._deadline = self._clock() + _LONGEST_WAIT_S

    def patience(self, n_requests: int) -> float:
        """Seconds to wait for the next request; 0 to start now.

        Args:
            n_requests: that have arrived.
        """
        if n_requests >= self._expected:
            return 0.0
        return max(min(_LONGEST_GAP_S, self._deadline - self._clock()), 0.0)

    def note(self, n_requests: int) -> None:
        """Take in how many requests there are before a step."""
        self._peak = max(self._peak, n_requests)
