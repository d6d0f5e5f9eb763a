"""A program that runs as long as its owner: how it is started, whether it lives, what it said, how it ends."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from ...nvml import open_nvml
from ...types import MemoryUse
from ..process import SECRETS, kill
from . import FILES

_END_S = 20.0  # of the keeper, which gives the program 10 s and then kills it
_TAIL_BYTES = 4096
_MB = 1e6


class KeptProgram:
    """A program under its keeper (`__main__`), which ends it when this process ends or calls `end`."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        files: Mapping[Path, str] | None = None,
    ) -> None:
        """Start it.

        Args:
            files: are written for it, readable by this user only, and deleted when it has ended.

        Raises:
            OSError: there is no such program, or no room for the files.
        """
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `end`)
        shown = os.environ.get("LQMF_DEBUG") == "1"
        theirs, self._ours = os.pipe()
        root = str(Path(__file__).resolve().parents[3])
        paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        try:
            for path, text in (files or {}).items():
                with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                    file.write(text)
            self._keeper = subprocess.Popen(
                [sys.executable, "-m", __package__ or "", str(theirs), *arguments],
                pass_fds=[theirs],
                stdin=subprocess.DEVNULL,
                stdout=None if shown else self._log,
                stderr=None if shown else self._log,
                env={
                    **{k: v for k, v in os.environ.items() if k not in SECRETS},
                    **environment,
                    "PYTHONPATH": os.pathsep.join(paths),
                    FILES: os.pathsep.join(map(str, files or ())),
                },
            )
        except BaseException:
            for path in files or ():
                path.unlink(missing_ok=True)
            os.close(self._ours)
            self._log.close()
            raise
        finally:
            os.close(theirs)
        self._meter = TreeMeter(self._keeper.pid)

    @property
    def pid(self) -> int:
        """Of the keeper; the program is its child."""
        return self._keeper.pid

    def exit_code(self) -> int | None:
        """Of the program; None while it runs."""
        return self._keeper.poll()

    def wait(self) -> None:
        """Return when it has ended."""
        self._keeper.wait()

    def memory(self) -> MemoryUse:
        """Of the program and all that it has started."""
        return self._meter.read()

    def last_words(self) -> str:
        """The last line of its output that says something; empty if there is none."""
        with contextlib.suppress(OSError, ValueError):
            end = self._log.seek(0, os.SEEK_END)
            self._log.seek(max(0, end - _TAIL_BYTES))
            lines = self._log.read().decode(errors="replace").splitlines()
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""

    def end(self) -> None:
        """End it and all that it has started; returns when they are gone. May be called twice."""
        if self._ours < 0:
            return
        os.close(self._ours)
        self._ours = -1
        try:
            self._keeper.wait(_END_S)
        except subprocess.TimeoutExpired:
            kill(self._keeper, "keeper")
        self._log.close()


class TreeMeter:
    """Memory of a process and its descendants. Shared pages count in each of them."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._nvml, self._devices = open_nvml()
        self._peak_rss = self._peak_gpu = 0.0

    def read(self) -> MemoryUse:
        """Current use, and the highest that was read so far; zeros once the process is gone."""
        family: dict[int, float] = {}
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(self._pid)
            for process in [root, *root.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    family[process.pid] = process.memory_info().rss / _MB
        gpu = 0.0
        for device in self._devices:
            with contextlib.suppress(self._nvml.NVMLError):
                running = self._nvml.nvmlDeviceGetComputeRunningProcesses(device)
                gpu += sum((p.usedGpuMemory or 0) for p in running if p.pid in family) / _MB
        rss = sum(family.values())
        self._peak_rss, self._peak_gpu = max(self._peak_rss, rss), max(self._peak_gpu, gpu)
        return MemoryUse(rss_mb=rss, peak_rss_mb=self._peak_rss, gpu_mb=gpu, peak_gpu_mb=self._peak_gpu)


def free_port(host: str) -> int:
    """A port at this address of this machine that nobody listens on now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
    return port
