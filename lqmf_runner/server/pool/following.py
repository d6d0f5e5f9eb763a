"""How many replicas a model should have, from the requests that it has: between bounds, and without swinging.

More as soon as requests have waited for a slot for `UP_S` seconds on end: as many as have slots for all of them, at
most twice as many as there are. One fewer if for `DOWN_S` seconds never more requests were there than fill half of the
slots that would be left. The two rules lie apart, so that the load that led to one more never leads to one fewer
(ray-project/ray#18925 tells what happens otherwise), and a short quiet time between two bursts ends nothing.
"""

from __future__ import annotations

import math

UP_S, DOWN_S = 2.0, 60.0
EVERY_S = 0.5
"""Between two looks at the queue."""
_LEFT = 0.5


class Follower:
    """Keeps the bounds and the observations."""

    def __init__(self, low: int, high: int) -> None:
        self._low = low
        self._high = high
        self._full_since: float | None = None
        self._seen: list[tuple[float, int]] = []  # the time, and how many requests there were

    def wanted(self, now: float, present: int, requests: int, slots: int) -> int:
        """How many replicas there should be.

        Args:
            present: those there are, the starting ones included.
            requests: that are computed or wait.
            slots: of one replica.
        """
        self._seen = [seen for seen in self._seen if now - seen[0] <= DOWN_S]
        self._seen.append((now, requests))
        if requests <= present * slots:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now
        target = present
        if self._full_since is not None and now - self._full_since >= UP_S:
            target = min(math.ceil(requests / slots), 2 * present)
        elif now - self._seen[0][0] >= DOWN_S - EVERY_S:
            most = max(count for _, count in self._seen)
            target = present - 1 if most <= _LEFT * slots * (present - 1) else present
        target = min(max(target, self._low), self._high)
        if target != present:
            self._full_since = None
            self._seen.clear()
        return target
