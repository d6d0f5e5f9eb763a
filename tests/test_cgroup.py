"""What a container leaves of the machine, from the files of the kernel as they are in real containers."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from lqmf_runner.cgroup import available_memory, total_memory, usable_cores


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> int:
    """A machine with 96 cores, whatever this one has."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(96)))
    return 96


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes that are free on the machine, whatever this one has."""

    class Memory:
        available = 200 * 10**9
        total = 256 * 10**9

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory)
    return Memory.available


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_limits_all_cores_and_all_memory_are_used(tmp_path: Path, cores: int, free: int) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/cpu.max": "max 100000\n",
        "sys/fs/cgroup/memory.max": "max\n",
    }
    for root in (tmp_path / "nothing", write(tmp_path / "unlimited", files)):
        assert (usable_cores(root), available_memory(root)) == (cores, free)
        assert total_memory(root) == 256 * 10**9


@pytest.mark.parametrize(
    ("quota", "expected"), [("400000 100000", 4), ("765000 100000", 7), ("50000 100000", 1)]
)
@pytest.mark.usefixtures("cores")
def test_threads_follow_the_limit_of_processor_time(tmp_path: Path, quota: str, expected: int) -> None:
    root = write(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{quota}\n"})
    assert usable_cores(root) == expected


NESTED = {
    "proc/self/cgroup": "0::/kubepods/pod1/server\n",
    "sys/fs/cgroup/kubepods/cpu.max": "800000 100000\n",
    "sys/fs/cgroup/kubepods/pod1/cpu.max": "300000 100000\n",
    "sys/fs/cgroup/kubepods/pod1/server/cpu.max": "max 100000\n",
    "sys/fs/cgroup/kubepods/pod1/memory.max": "4000000000\n",
    "sys/fs/cgroup/kubepods/pod1/memory.current": "1500000000\n",
    "sys/fs/cgroup/kubepods/pod1/memory.stat": "anon 900000000\ninactive_file 500000000\n",
    "sys/fs/cgroup/kubepods/pod1/server/memory.max": "max\n",
}
VERSION_1 = {
    "proc/self/cgroup": "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000000000\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "2100000000\n",
    "sys/fs/cgroup/memory/memory.stat": "cache 1\ntotal_inactive_file 300000000\n",
}
UNLIMITED_1 = VERSION_1 | {
    "proc/self/cgroup": "4:memory:/\n1:cpu:/\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
}


@pytest.mark.parametrize(
    ("files", "cores_left", "free_left", "total"),
    [
        pytest.param(NESTED, 3, 3 * 10**9, 4 * 10**9, id="the tightest group counts"),
        pytest.param(VERSION_1, 2, 200_000_000, 2 * 10**9, id="version 1, with a path of the machine"),
        pytest.param(UNLIMITED_1, 96, 200 * 10**9, 256 * 10**9, id="version 1 without limits"),
    ],
)
@pytest.mark.usefixtures("cores", "free")
def test_limits_of_a_container_are_read(
    tmp_path: Path, files: dict[str, str], cores_left: int, free_left: int, total: int
) -> None:
    root = write(tmp_path, files)
    assert (usable_cores(root), available_memory(root)) == (cores_left, free_left)
    assert total_memory(root) == total


def test_here_it_answers() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))
    assert 0 < available_memory() <= psutil.virtual_memory().total
