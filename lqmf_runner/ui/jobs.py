"""Programs that the page starts: a run of `lqmf` in a process of its own, which can be watched and cancelled."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import UserInputError

_LINES = 12
_END_S = 30.0
_AT_ONCE = 2


class Job:
    """One run. `output` has the last lines that it printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lines: list[str] = []
        self._reading = asyncio.create_task(self._read())
        self.cancelled = False

    @property
    def output(self) -> str:
        """The last lines that it printed."""
        return "\n".join(self._lines)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    async def ended(self, within_s: float) -> int | None:
        """The exit code; None if it still runs after so many seconds."""
        try:
            async with asyncio.timeout(within_s):
                await asyncio.shield(self._reading)
                return await self._process.wait()
        except TimeoutError:
            return None

    async def cancel(self) -> None:
        """End it as Ctrl-C does, if it runs: what was done is kept. It is killed if that takes too long."""
        if self.running:
            self.cancelled = True
            self._process.send_signal(signal.SIGINT)
            if await self.ended(_END_S) is None:
                self._process.kill()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self._lines = [*self._lines, line.decode("utf-8", "replace").rstrip()][-_LINES:]


def _environment() -> dict[str, str]:
    """The server's own, without its keys: what a run prints is shown to a visitor."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LQMF_API_KEY")}


class Jobs:
    """The jobs of a page, which end with it."""

    def __init__(self) -> None:
        self._running: list[Job] = []
        self._starting = 0

    async def start(
        self, words: Sequence[str], *, folder: Path | None = None, env: Mapping[str, str] | None = None
    ) -> Job:
        """Start `lqmf` with these words.

        Raises:
            UserInputError: as many as may run at the same time run already.
        """
        self._running = [job for job in self._running if job.running]
        if len(self._running) + self._starting >= _AT_ONCE:
            raise UserInputError(f"{_AT_ONCE} runs are in progress already", hint="wait until one has ended")
        self._starting += 1
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "lqmf_runner", *words, cwd=folder, stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, limit=1 << 20,
                env={**_environment(), "NO_COLOR": "1", **(env or {})}, start_new_session=True,
            )  # fmt: skip
        finally:
            self._starting -= 1
        job = Job(process)
        self._running.append(job)
        return job

    async def close(self) -> None:
        """Cancel what still runs."""
        await asyncio.gather(*(job.cancel() for job in self._running))
