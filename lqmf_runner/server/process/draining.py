"""The server's end: the first signal drains, the second ends at once."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from ...errors import UnavailableError
from ..state import Lifecycle

log = logging.getLogger(__name__)

_GRACE_S = 5  # for connections to close once their requests have ended


class DrainingServer(uvicorn.Server):
    """uvicorn that still listens while it drains, so that new requests get a 503 and not a refused connection.

    Args:
        lifecycle: of the server, which drains from the first signal on.
        drain_s: requests that are still running after so long end with an error.
        on_drain: called when the draining begins.
        on_abort: called before the process ends at once; must not wait.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        lifecycle: Lifecycle,
        *,
        drain_s: float,
        on_drain: Callable[[], None],
        on_abort: Callable[[], None],
    ) -> None:
        config.timeout_graceful_shutdown = _GRACE_S
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_s = drain_s
        self._drain_until = 0.0
        self._on_drain = on_drain
        self._on_abort = on_abort

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain, or end at once if it drains already (uvicorn's signal handler)."""
        if self._lifecycle.draining:
            # Workers end when their sockets close, which happens with this process.
            with contextlib.suppress(Exception):
                self._on_abort()
            os._exit(128 + sig)
        log.info("%s: draining %d requests", signal.Signals(sig).name, self._lifecycle.running)
        self._lifecycle.draining = True
        self._drain_until = time.monotonic() + self._drain_s
        self._on_drain()

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop now (uvicorn asks ten times a second)."""
        if self._lifecycle.draining and not self.should_exit:
            late = time.monotonic() >= self._drain_until
            if late:
                log.warning("%d requests did not end within %g s", self._lifecycle.running, self._drain_s)
                self._lifecycle.end_all(
                    UnavailableError("the server has stopped before the answer was complete")
                )
            self.should_exit = late or not self._lifecycle.running
        return await super().on_tick(counter)
