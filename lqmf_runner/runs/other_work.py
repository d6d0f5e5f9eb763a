"""The processor time that other programs used while a model was measured."""

from __future__ import annotations

import contextlib
import time

import psutil

_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")


class OtherWork:
    """The processor time of the machine outside this program, since the creation of the object."""

    def __init__(self) -> None:
        self._began, self._before = time.monotonic(), _other_seconds()

    def cores(self) -> float:
        """The average number of cores that others used. On a virtual machine this includes its neighbours."""
        took = time.monotonic() - self._began
        return max(0.0, (_other_seconds() - self._before) / took) if took > 0 else 0.0


def _other_seconds() -> float:
    """Seconds of all cores that were busy, except with this process and its children."""
    machine = psutil.cpu_times()
    busy = sum(getattr(machine, name, 0.0) for name in _BUSY)
    own = psutil.Process()
    ours = sum(own.cpu_times()[:4])  # user, system, and those of the children that have ended
    for child in own.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            ours += sum(child.cpu_times()[:4])
    return busy - ours
