"""The machine a run was made on: processor, memory, GPUs, versions, and measured memory bandwidth."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from ..cgroup import usable_cores
from ..nvml import open_nvml
from .schema import Gpu, SystemInfo

PACKAGES = (
    "lqmf-runner", "numpy", "mlflow", "hydra-core",
)  # fmt: skip
"""Packages whose versions decide a result in every format."""

_BANDWIDTH_TIMEOUT_S = 20.0


def describe_system(formats: Iterable[str] = (), *, measure_bandwidth: bool = True) -> SystemInfo:
    """Describe this machine. Unknown values never cause an error.

    Args:
        formats: the packages that the formats run on.
    """
    return SystemInfo(
        cpu=cpu_name(),
        cores=usable_cores(),
        ram_mb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6, 1),
        os=platform.platform(terse=True),
        python=platform.python_version(),
        gpus=find_gpus(),
        packages=package_versions((*PACKAGES, *formats)),
        memory_bandwidth_gb_s=memory_bandwidth_gb_s() if measure_bandwidth else None,
    )


def cpu_name() -> str:
    """The processor's name as the kernel gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def find_gpus() -> list[Gpu]:
    """NVIDIA GPUs through NVML; none if there is no driver or no `nvidia-ml-py`."""
    nvml, devices = open_nvml()
    if not devices:
        return []
    try:
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        return [
            Gpu(
                _text(nvml.nvmlDeviceGetName(device)),
                round(nvml.nvmlDeviceGetMemoryInfo(device).total / 1e6, 1),
                driver,
            )
            for device in devices
        ]
    except nvml.NVMLError:
        return []


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of the packages that are installed, read from their metadata; nothing is imported."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit(folder: Path | None = None) -> str | None:
    """Commit of the program's own checkout, with "-dirty" if files differ from it; None where there is none."""
    home = folder or Path(__file__).resolve().parents[1]
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=home, capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
        tracked = subprocess.run(
            ["git", "ls-files", "--error-unmatch", "errors.py" if folder is None else "."],
            cwd=home, capture_output=True, timeout=5, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    # The program is installed in an environment inside another repository: that commit is not ours.
    return described.stdout.strip() or None if tracked.returncode == 0 else None


@functools.lru_cache(maxsize=1)
def memory_bandwidth_gb_s() -> float | None:
    """Read bandwidth of the main memory in 10^9 bytes/s, all usable cores reading; measured once for each process.

    A short child process does it, so that numpy and its buffers never live here. None if it could not be measured.
    """
    limits = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    try:
        child = subprocess.run(
            [sys.executable, "-c", _BANDWIDTH_PROGRAM, str(usable_cores()), str(_buffer_bytes())],
            capture_output=True, text=True, timeout=_BANDWIDTH_TIMEOUT_S, env={**os.environ, **limits}, check=True,
        )  # fmt: skip
        return round(float(child.stdout), 2)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _buffer_bytes() -> int:
    """Four times the last-level cache, 512 MB to 2 GB, and never more than a quarter of the free memory."""
    cache = 0
    for size in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = size.read_text().strip()
        cache = max(cache, int(text[:-1]) * {"K": 1 << 10, "M": 1 << 20}.get(text[-1], 1))
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return min(max(4 * cache, 512 << 20), 2 << 30, max(free // 4, 64 << 20))


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


_BANDWIDTH_PROGRAM = """
import sys, threading, time
import numpy as np

threads, size = int(sys.argv[1]), int(sys.argv[2])
each = max(1, size // threads // 8)
begin, end = threading.Barrier(threads + 1), threading.Barrier(threads + 1)
measuring = True

def read():
    part = np.ones(each, dtype=np.int64)  # its pages are touched by the thread that reads them
    while True:
        begin.wait()
        if not measuring:
            return
        part.max()  # one vectorised pass over the array, without the interpreter lock
        end.wait()

for _ in range(threads):
    threading.Thread(target=read, daemon=True).start()
until, rounds = time.perf_counter() + 2.0, []
while len(rounds) < 2 or time.perf_counter() < until:
    start = time.perf_counter()
    begin.wait()
    end.wait()
    rounds.append(time.perf_counter() - start)
measuring = False
begin.wait()
print(threads * each * 8 / min(rounds) / 1e9)
"""
