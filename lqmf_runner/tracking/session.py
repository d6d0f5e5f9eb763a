"""A server's session as one MLflow run: summaries at intervals, one more at the end, and traces of single requests.

They are written to the run's folder first and sent by the same child process as any run, so that a tracking server
that is down, refuses or hangs costs the requests nothing, and `python -m lqmf_runner.tracking <run folder>` sends them
later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from ..errors import LqmfError
from ..models.registered import Weights
from ..results.files import write_whole
from ..results.flat import flatten
from ..results.logs.line_file import LineFile
from ..results.schema import RequestTrace
from ..results.times import now_ms
from . import Tracker
from .values import NAME_LENGTH, run_params

log = logging.getLogger(__name__)

SESSION_NAME, SUMMARIES_NAME, TRACES_NAME = "session.json", "session.jsonl", "traces.jsonl"
WEIGHTS_NAME = "weights.json"
SENT_NAME = "mlflow.json"
TIMEOUT_S = 30


class Session(msgspec.Struct):
    """The constant data of a session; `started_at` in milliseconds since the epoch."""

    id: str
    name: str
    command: str
    started_at: int
    params: dict[str, str]


class SessionSummary(msgspec.Struct):
    """The metrics at a moment, in milliseconds since the epoch. `final`: the server has stopped."""

    time: int
    metrics: dict[str, float]
    final: bool = False


class SentSession(msgspec.Struct):
    """How far a session is in MLflow: its run, and how many summaries and bytes of the file of traces were sent."""

    run_id: str
    summaries: int = 0
    traces: int = 0


def read_sent(folder: Path) -> SentSession | None:
    """How far the session of a folder was sent; None if nothing was."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((folder / SENT_NAME).read_bytes(), type=SentSession)
    return None


class SessionTracker:
    """Writes the summaries of one session, and has them sent.

    Args:
        stats: the server's statistics, with `requests` and `models`.
        weights: those that have answered so far.
        take_traces: gives the traces of requests that have ended since it was asked last.
        later: the command that sends the folder by hand, shown when sending fails.
    """

    def __init__(
        self,
        tracker: Tracker,
        folder: Path,
        stats: Callable[[], Mapping[str, Any]],
        *,
        name: str,
        command: str,
        config: Mapping[str, Any],
        interval_s: float,
        weights: Callable[[], Sequence[Weights]] = tuple,
        take_traces: Callable[[], Sequence[RequestTrace]] = tuple,
        later: str = "",
    ) -> None:
        self._tracker = tracker
        self._folder = folder
        self._stats = stats
        self._weights = weights
        self._take_traces = take_traces
        self._session = Session(folder.name, name, command, now_ms(), run_params(config))
        self._interval_s = interval_s
        self._later = later
        self._sent_requests = 0
        self._told = False

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Sends summaries while the block runs, and the last one when it ends. Raises nothing of its own."""
        stop = asyncio.Event()
        task = asyncio.create_task(self._run(stop))
        try:
            yield
        finally:
            stop.set()
            await task

    async def _run(self, stop: asyncio.Event) -> None:
        final = False
        while not final:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await stop.wait()
            final, stats = stop.is_set(), self._stats()
            # A server without requests leaves no run.
            if stats["requests"] > self._sent_requests or (final and self._sent_requests):
                self._sent_requests = stats["requests"]
                await self._send(SessionSummary(now_ms(), session_metrics(stats), final))

    async def _send(self, summary: SessionSummary) -> None:
        try:
            await asyncio.to_thread(self._write_and_send, summary, self._take_traces())
        except (OSError, LqmfError) as error:
            level = logging.DEBUG if self._told else logging.WARNING
            self._told = True
            hint = f"; send it later: {self._later}" if self._later else ""
            log.log(level, "the session is not in MLflow: %s%s", error, hint)

    def _write_and_send(self, summary: SessionSummary, traces: Sequence[RequestTrace]) -> None:
        write_whole(self._folder / SESSION_NAME, msgspec.json.encode(self._session))
        write_whole(self._folder / WEIGHTS_NAME, msgspec.json.encode(self._weights()))
        for name, lines in ((TRACES_NAME, traces), (SUMMARIES_NAME, (summary,))):
            if lines:
                with contextlib.closing(LineFile(self._folder / name)) as file:
                    for line in lines:
                        file.append(msgspec.json.encode(line) + b"\n")
        self._tracker.send(self._folder)


def session_metrics(stats: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of the statistics under MLflow's names: `requests`, `<model>/ttft_s.p50`, `qwen:3/ttft_s.p50`."""
    found = dict(flatten({name: value for name, value in stats.items() if name != "models"}))
    for model, values in stats["models"].items():
        found |= {f"{model}/{name}": value for name, value in flatten(values)}
    return {  # MLflow does not accept the @ of `qwen@3`
        re.sub(r"[^\w\-. :/]", "_", name.replace("@", ":"))[:NAME_LENGTH]: float(value)
        for name, value in found.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
