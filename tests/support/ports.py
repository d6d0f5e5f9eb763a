"""Free ports of loopback for programs that must be told theirs."""

from __future__ import annotations

import os
import socket
from itertools import count

# Below the ports that the kernel gives away (from 32768 on): one of those, let go so that a program may take it,
# can be another's by then. Each process of a run of tests has 400 to itself.
_FIRST, _EACH = 20_000, 400
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_numbers = count(os.getpid() % _EACH)


def free_port() -> int:
    """A port that nobody listens on and that this process has not given before."""
    for _ in range(_EACH):
        port = _FIRST + _worker * _EACH + next(_numbers) % _EACH
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free")
