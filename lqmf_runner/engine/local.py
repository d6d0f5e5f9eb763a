"""`LocalEngine`: an `EngineClient` whose model lives in a worker process on this machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from ..types import ModelSpec
from .process import LocalProcess, thread_count
from .process_engine import ProcessEngine


class LocalEngine(ProcessEngine):
    """Talks to a worker that is a child of this process. Make it with `LocalEngine.start`."""

    @classmethod
    async def start(cls, spec: ModelSpec, on_progress: Callable[[float], None] | None = None) -> LocalEngine:
        """Start a worker and load the model; returns when it is ready to answer.

        Raises:
            LqmfError: whatever the load failed with; no process is left.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = LocalProcess(theirs, thread_count(spec))  # takes about a millisecond
        engine = cls(spec.name, process, on_progress)
        loop = asyncio.get_running_loop()
        await engine.load(spec, loop.create_unix_connection(lambda: engine.connection, sock=ours))
        return engine
