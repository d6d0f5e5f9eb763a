"""The process behind a connection: how it is started, how its memory is measured, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from ..cgroup import usable_cores
from ..errors import EngineLostError
from ..redaction import SECRET_KEY
from ..types import MemoryUse, ModelSpec
from .memory import MemoryMeter
from .protocol import STEP_HANGS

log = logging.getLogger(__name__)

SECRETS = frozenset(
    {
        "RAY_AUTH_TOKEN", "LQMF_API_KEY", "LQMF_API_KEYS", "PGPASSWORD",
        "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN",
    }
)  # fmt: skip
"""Variables that a program which serves a model does not get.

A worker gets none whose name is that of a secret: a model's own code could read them, and a worker needs no login.
"""

_CLOSE_TIMEOUT_S, _KILL_TIMEOUT_S, _EXIT_CODE_TIMEOUT_S = 5.0, 5.0, 0.5


class WorkerProcess(ABC):
    """A process that holds a model.

    Attributes:
        pid: its id, on the machine where it runs.
        node: the name of that machine; empty for this one.
    """

    pid: int
    node: str = ""

    @abstractmethod
    async def exit_code(self) -> int | None:
        """Its exit code, or minus the number of the signal that ended it. None if it is not known within a moment."""

    @abstractmethod
    async def memory(self) -> MemoryUse:
        """Current and maximum use; zeros once it has ended."""

    @abstractmethod
    async def close(self) -> None:
        """Wait until it ends, which it does when its connection closes; kill it after 5 s. May be called twice.

        A process that the kernel does not end within 5 s after that is given up, and the log says so.
        """


class LocalProcess(WorkerProcess):
    """A worker that is a child of this process.

    Args:
        connection: the worker's end of its connection.
        n_threads: for the libraries that take their number of threads from the environment.
        environment: variables that the worker gets beside those of this process.
    """

    def __init__(self, connection: socket.socket, n_threads: int, **environment: str) -> None:
        # A file, not a pipe: nobody reads it, and a full pipe would block the worker.
        self._log = None if os.environ.get("LQMF_DEBUG") == "1" else tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker", str(connection.fileno())],
            pass_fds=[connection.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=_environment(n_threads) | environment,
        )
        self.pid = self._process.pid
        self._meter = MemoryMeter(self.pid)

    async def exit_code(self) -> int | None:
        """See `WorkerProcess`. The kernel has the code a moment after it has closed the socket."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _EXIT_CODE_TIMEOUT_S
        while (code := self._process.poll()) is None and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        return code

    async def wait(self) -> int:
        """Its exit code when it has ended, without a limit of time."""
        return await asyncio.to_thread(self._process.wait)

    async def memory(self) -> MemoryUse:
        """See `WorkerProcess`."""
        return self._meter.read()

    async def close(self) -> None:
        """See `WorkerProcess`."""
        await asyncio.to_thread(self._end)
        if self._log is not None:
            self._log.close()

    def _end(self) -> None:
        try:
            self._process.wait(_CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            kill(self._process, "worker")


def kill(process: subprocess.Popen[Any], what: str) -> None:
    """Kill a process. One that waits for a device or a network's file system may not end: it is given up after 5 s."""
    process.kill()
    try:
        process.wait(_KILL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        log.error(
            "the %s process %d has not ended %g s after it was killed, and its memory may still be in use: "
            "the kernel waits in it for a device or a file system (see ps -o stat,wchan -p %d)",
            what, process.pid, _KILL_TIMEOUT_S, process.pid,
        )  # fmt: skip


def thread_count(spec: ModelSpec) -> int:
    """The number of threads of a worker of this process."""
    threads: Any = spec.options.get("n_threads")
    return int(threads or usable_cores())


def loss(name: str, code: int | None, *, node: str = "", loading: bool = False) -> EngineLostError:
    """The error of requests whose worker has ended with `code`; None means that the code is unknown."""
    what = "the files may be damaged" if loading else "its requests failed; load the model again"
    where = f" on node {node}" if node else ""
    return EngineLostError(
        f"the process of '{name}'{where} ended{' while it loaded' if loading else ''}: {_describe_exit(code)}",
        hint=f"{what} (LQMF_DEBUG=1 shows the worker's own output)",
    )


def _environment(n_threads: int) -> dict[str, str]:
    threads = str(n_threads)
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        "OMP_NUM_THREADS": threads,
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # the order of NVML
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # weights in huge pages: fewer misses in the TLB
        **{k: v for k, v in os.environ.items() if k not in SECRETS and not SECRET_KEY.search(k)},
        "PYTHONPATH": os.pathsep.join(paths),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "GPTQMODEL_CPU_WORKERS": threads,
    }


def _describe_exit(code: int | None) -> str:
    if code is None:
        return "it closed its connection"
    if code == -9:
        return "killed (signal 9), perhaps because the machine ran out of memory"
    if code == STEP_HANGS:
        return "a step of the model took longer than backend.step_timeout_s"
    if code < 0:
        return f"signal {-code}"
    return f"exit code {code}"
