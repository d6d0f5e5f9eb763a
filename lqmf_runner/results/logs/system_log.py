"""Writes `system.jsonl`: processor, memory and GPU use during a run, one line every few seconds, from a thread.

A sample takes about a millisecond of one core, so it does not affect the figures of the run.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import psutil

from ...nvml import open_nvml
from ..files import SYSTEM, read_lines
from ..times import now_ms
from .line_file import LineFile

_MB = 1e6


class SystemSample(msgspec.Struct, frozen=True):
    """The machine at a moment: `time` in milliseconds since the epoch, `model` the one that was under measurement."""

    time: int
    model: str
    metrics: dict[str, float]


class SystemLog:
    """Samples every `interval_s` seconds while it is entered; never if that is None.

    Set `model` to the name of the model that is measured. A sample that cannot be written is lost, and nothing else is.
    """

    def __init__(self, folder: Path, interval_s: float | None) -> None:
        self.model = ""
        self._path = folder / SYSTEM
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system-log", daemon=True)

    def __enter__(self) -> Self:
        if self._interval_s is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._interval_s is not None:
            self._thread.join()

    def _run(self) -> None:
        meter = UsageMeter()
        with contextlib.suppress(OSError):
            file = LineFile(self._path)
            try:
                while not self._stop.wait(self._interval_s):
                    sample = SystemSample(now_ms(), self.model, meter.read())
                    file.append(msgspec.json.encode(sample) + b"\n")
            finally:
                file.close()


class UsageMeter:
    """Reads how busy the machine is, under the names that MLflow gives such figures."""

    def __init__(self) -> None:
        self._nvml, self._devices = open_nvml()
        psutil.cpu_percent()  # later readings are the mean since the one before

    def read(self) -> dict[str, float]:
        """Use of the processor, of the memory, of each GPU, and the resident memory of our worker processes."""
        memory = psutil.virtual_memory()
        found = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / _MB,
            "system_memory_usage_percentage": memory.percent,
            "worker_rss_mb": _children_rss_mb(),
        }
        for number, device in enumerate(self._devices):
            with contextlib.suppress(self._nvml.NVMLError):
                used = self._nvml.nvmlDeviceGetMemoryInfo(device).used / _MB
                found[f"gpu_{number}_memory_usage_megabytes"] = used
                busy = self._nvml.nvmlDeviceGetUtilizationRates(device).gpu
                found[f"gpu_{number}_utilization_percentage"] = float(busy)
        return found


def read_system_log(folder: Path) -> list[SystemSample]:
    """Read `system.jsonl`; none where nothing was sampled."""
    return read_lines(folder / SYSTEM, SystemSample)


def _children_rss_mb() -> float:
    """Resident memory of all processes below this one."""
    total = 0
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                total += child.memory_info().rss
    return total / _MB
