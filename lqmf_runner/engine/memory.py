"""Memory of a process, from the operating system and the GPU's driver."""

from __future__ import annotations

import contextlib

import psutil

from ..nvml import open_nvml
from ..types import MemoryUse

_MB = 1e6


class MemoryMeter:
    """Reads the memory of one process. GPU figures come from NVML if it is installed and there is a GPU."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._nvml, self._devices = open_nvml()
        self._peak_rss = self._peak_gpu = 0.0

    def read(self) -> MemoryUse:
        """Current and peak use; zeros once the process is gone."""
        rss = gpu = 0.0
        with contextlib.suppress(psutil.Error):
            rss = self._process.memory_info().rss / _MB
            self._peak_rss = max(self._peak_rss, rss, _peak_rss_mb(self._process.pid))
        for device in self._devices:
            with contextlib.suppress(self._nvml.NVMLError):
                running = self._nvml.nvmlDeviceGetComputeRunningProcesses(device)
                gpu += sum((p.usedGpuMemory or 0) for p in running if p.pid == self._process.pid) / _MB
        self._peak_gpu = max(self._peak_gpu, gpu)
        return MemoryUse(rss_mb=rss, peak_rss_mb=self._peak_rss, gpu_mb=gpu, peak_gpu_mb=self._peak_gpu)


def _peak_rss_mb(pid: int) -> float:
    """The kernel's own high-water mark (Linux); 0 elsewhere."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / _MB
    return 0.0
