"""Processes that come and go while a test looks at them."""

from __future__ import annotations

import contextlib
import os
import select

import psutil


def wait_until_gone(*pids: int, patience_s: float = 60.0) -> None:
    """Return when the processes have ended; they need be no children, and a zombie has ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                assert select.select([descriptor], [], [], patience_s)[0], f"process {pid} lives on"
            finally:
                os.close(descriptor)


def command(process: psutil.Process) -> list[str]:
    """The words that a process was started with; none once it has ended."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
