"""The share of the machine that a container leaves to this process.

A container's limits of processor time and memory (`docker run --cpus 2 --memory 4g`, the limits of a Kubernetes pod)
are those of a control group. The kernel goes on to report all cores and all memory of the machine. A thread for each
of those cores makes a model many times slower, because the threads wait for each other while the group is throttled.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

_UNLIMITED = 1 << 60  # version 1 writes a number near 2^63 for "no limit"


def usable_cores(root: Path = Path("/")) -> int:
    """Whole cores this process may use: those it may run on, or fewer if its processor time is limited.

    A part of a core is left out: one thread more than the limit serves is enough to get all of them throttled.

    Args:
        root: where /proc and /sys are.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(int(quota) for quota in _cpu_quotas(root))]))


def available_memory(root: Path = Path("/")) -> int:
    """Bytes of memory that this process can use without swapping: of the machine, or of a limited container."""
    return max(0, min([psutil.virtual_memory().available, *_left_in_groups(root)]))


def total_memory(root: Path = Path("/")) -> int:
    """Bytes of memory that this process and its neighbours share: of the machine, or fewer in a limited container."""
    return min([psutil.virtual_memory().total, *(limit for _, _, limit in _memory_limits(root))])


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Processor time as cores, for each group that limits it."""
    for folder in _groups(root, ""):
        quota, period = _numbers(folder / "cpu.max") or (0, 0)
        if quota and period:
            yield quota / period
    for folder in _groups(root, "cpu"):
        quota, period = (_number(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        if quota > 0 and period > 0:
            yield quota / period


def _left_in_groups(root: Path) -> Iterator[int]:
    """Bytes that each group with a limit has left. Cached files count as free: the kernel drops them when needed."""
    for folder, used_name, limit in _memory_limits(root):
        yield limit - _number(folder / used_name) + _cached_files(folder / "memory.stat")


def _memory_limits(root: Path) -> Iterator[tuple[Path, str, int]]:
    """The folder of each group that limits memory, the name of its file with the use, and its limit in bytes."""
    for controller, limit_name, used_name in (
        ("", "memory.max", "memory.current"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        for folder in _groups(root, controller):
            limit = _number(folder / limit_name)
            if 0 < limit < _UNLIMITED:
                yield folder, used_name, limit


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the groups this process is in, the innermost first; "" is version 2 of control groups."""
    mount = root / "sys/fs/cgroup" / controller
    for line in _lines(root / "proc/self/cgroup"):
        _, names, path = (*line.split(":", 2), "", "")[:3]
        if controller in names.split(","):
            # In a container the path may be that of the host, which does not exist there; the limits are at the mount.
            own = mount / path.strip("/")
            inside = [own, *own.parents]
            yield from (folder for folder in inside[: inside.index(mount) + 1] if folder.is_dir())


def _cached_files(stat: Path) -> int:
    values = dict(line.split(" ", 1) for line in _lines(stat) if " " in line)
    return int(values.get("total_inactive_file", values.get("inactive_file", 0)))


def _number(file: Path) -> int:
    """The number in the file; 0 if there is none, or no limit."""
    numbers = _numbers(file)
    return numbers[0] if numbers else 0


def _numbers(file: Path) -> list[int]:
    lines = _lines(file)
    with contextlib.suppress(ValueError):
        return [int(word) for word in lines[0].split()] if lines else []
    return []


def _lines(file: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return file.read_text().splitlines()
    return []
