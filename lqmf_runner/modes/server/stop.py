"""mode=stop: end servers that run."""

from __future__ import annotations

import json

from ...config import StopMode
from ...errors import LqmfError, UserInputError
from ...runs.context import RunContext
from ..base import Mode


def run(context: RunContext) -> int:
    """Stop the server on `server.port`, the only one without a port, or all. Nothing to stop is no error.

    Raises:
        UserInputError: there is none on that port, but there are others.
        LqmfError: one did not end in time.
    """
    from ...server.process.registry import running_servers

    mode = context.config.mode
    assert isinstance(mode, StopMode)
    running, port = running_servers(), context.config.server.port
    only = len(running) == 1 and "server.port=" not in context.command
    chosen = running if mode.all or only else [record for record in running if record.port == port]
    if running and not chosen:
        others = ", ".join(f"lqmf stop {record.port}" for record in running)
        raise UserInputError(f"no server runs on port {port}", hint=f"those that run: {others}")
    stopped = []
    for record in chosen:
        if not record.stop(mode.timeout_s, force=mode.force):
            raise LqmfError(
                f"the server on port {record.port} (process {record.pid}) still runs after {mode.timeout_s:g} s",
                hint="mode.force=true ends it at once; mode.timeout_s= waits longer",
            )
        record.remove()  # one that was ended at once could not do it itself
        stopped.append({"pid": record.pid, "port": record.port, "url": record.url})
        if mode.format == "text":
            print(f"stopped the server on {record.url} (process {record.pid})")
    if mode.format == "json":
        print(json.dumps({"stopped": stopped}))
    elif not stopped:
        print("no server is running")
    return 0


MODE = Mode(
    StopMode,
    "stop a server, once it has finished its requests",
    "stop 8000",
    run,
    needs_model=False,
    leaves_folder=False,
)
