"""`system.jsonl`: sampled while a model is measured, readable whatever a crash left, and silent on a full disk."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from lqmf_runner.results.files import SYSTEM
from lqmf_runner.results.logs.system_log import SystemLog, UsageMeter, read_system_log


def wait_for_samples(folder: Path, count: int) -> None:
    """Until the thread has written so many lines; a sampler that never does fails the test."""
    deadline = time.monotonic() + 30
    while len(read_system_log(folder)) < count:
        assert time.monotonic() < deadline, "no sample was written"


def test_samples_carry_the_model_that_is_measured(tmp_path: Path) -> None:
    began = time.time() * 1000
    with SystemLog(tmp_path, 0.01) as log:
        for count, model in ((2, "a"), (4, "b")):
            log.model = model
            wait_for_samples(tmp_path, count)
    samples = read_system_log(tmp_path)
    assert {"a", "b"} <= {sample.model for sample in samples}
    assert [sample.time for sample in samples] == sorted(sample.time for sample in samples)
    assert samples[0].time >= int(began)
    for sample in samples:
        assert 0 <= sample.metrics["cpu_utilization_percentage"] <= 100
        assert sample.metrics["system_memory_usage_megabytes"] > 10


def test_without_an_interval_nothing_is_sampled(tmp_path: Path) -> None:
    with SystemLog(tmp_path, None):
        pass
    assert read_system_log(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_line_cut_by_a_crash_is_dropped(tmp_path: Path) -> None:
    with SystemLog(tmp_path, 0.01):
        wait_for_samples(tmp_path, 1)
    whole = len(read_system_log(tmp_path))
    with (tmp_path / SYSTEM).open("ab") as file:
        file.write(b'{"time": 17, "mod')
    assert len(read_system_log(tmp_path)) == whole


def test_a_disk_without_space_costs_the_samples_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / SYSTEM).symlink_to("/dev/full")
    with SystemLog(tmp_path, 0.001) as log:
        log._thread.join(timeout=30)
        assert not log._thread.is_alive()


def test_workers_are_counted() -> None:
    held = "b = bytearray(50_000_000); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert UsageMeter().read()["worker_rss_mb"] > 50
        child.communicate(b"\n")
