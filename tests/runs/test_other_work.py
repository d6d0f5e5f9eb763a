"""What other programs take of the processor is told from what ours takes."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil

from lqmf_runner.runs.other_work import OtherWork

BURN = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass"


def test_the_work_of_this_process_and_its_children_is_not_others() -> None:
    before = sum(psutil.cpu_times()[:3])
    work, began = OtherWork(), time.monotonic()
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass
    subprocess.run([sys.executable, "-c", BURN.format(seconds=0.5)], check=True)
    took = time.monotonic() - began
    busy = (sum(psutil.cpu_times()[:3]) - before) / took
    assert work.cores() <= max(0.0, busy - 0.9 / took)


def test_the_work_of_others_is_counted() -> None:
    # a process that belongs to nobody here: its parent ends at once
    orphan = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {BURN.format(seconds=1.0)!r}])"
    work = OtherWork()
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", orphan], check=True)
    while time.monotonic() - began < 30 and work.cores() * (time.monotonic() - began) < 0.5:
        time.sleep(0.05)
    assert work.cores() * (time.monotonic() - began) >= 0.5
