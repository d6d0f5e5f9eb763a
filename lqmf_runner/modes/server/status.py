"""mode=status: the servers that run."""

from __future__ import annotations

import json

from ...config import StatusMode
from ...runs.context import RunContext
from ..base import Mode


def run(context: RunContext) -> int:
    """List the servers, as a table or as JSON with `mode.format=json`; 1 where there is none."""
    from ...server.process.registry import running_servers
    from ...server.process.status import examine, print_servers

    mode = context.config.mode
    assert isinstance(mode, StatusMode)
    servers = [examine(record) for record in running_servers()]
    if mode.format == "json":
        print(json.dumps(servers, indent=2))
    elif servers:
        print_servers(servers)
    else:
        print("no server is running")
    return 0 if servers else 1


MODE = Mode(
    StatusMode,
    "show the servers that run",
    "status",
    run,
    needs_model=False,
    leaves_folder=False,
)
