"""The server's end: the first signal drains, the second ends at once; and TLS."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import ssl
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from ...errors import UnavailableError, UserInputError
from ..guards.limits import InFlight

log = logging.getLogger(__name__)

_GRACE_S = 5  # for connections to close once their requests have ended


class DrainingServer(uvicorn.Server):
    """uvicorn, which goes on listening while it drains: new requests get a 503 instead of a refused connection.

    Args:
        in_flight: the requests being answered; told when the draining begins.
        drain_s: requests that are still running after so long end with an error.
        on_drain: called when the draining begins.
        on_abort: called before the process ends at once; must not wait.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        in_flight: InFlight,
        *,
        drain_s: float,
        on_drain: Callable[[], None],
        on_abort: Callable[[], None],
    ) -> None:
        config.timeout_graceful_shutdown = _GRACE_S
        super().__init__(config)
        self._in_flight = in_flight
        self._drain_s = drain_s
        self._drain_until = 0.0
        self._on_drain = on_drain
        self._on_abort = on_abort

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain, or end at once if that is what we are doing already (uvicorn's signal handler)."""
        if self._in_flight.draining:
            # The workers' sockets close with this process, and that ends them.
            with contextlib.suppress(Exception):
                self._on_abort()
            os._exit(128 + sig)
        log.info("%s: draining %d requests", signal.Signals(sig).name, self._in_flight.count)
        self._in_flight.draining = True
        self._drain_until = time.monotonic() + self._drain_s
        self._on_drain()

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop now (uvicorn asks ten times a second)."""
        if self._in_flight.draining and not self.should_exit:
            late = time.monotonic() >= self._drain_until
            if late:
                log.warning("%d requests did not end within %g s", self._in_flight.count, self._drain_s)
                self._in_flight.end_all(
                    UnavailableError("the server has stopped before the answer was complete")
                )
            self.should_exit = late or not self._in_flight.count
        return await super().on_tick(counter)


def check_tls(certfile: str | None, keyfile: str | None) -> None:
    """Raises UserInputError where the certificate cannot be used; without one there is no TLS."""
    if certfile is None:
        if keyfile is not None:
            raise UserInputError(
                "server.keyfile is given without server.certfile", hint="give both, or neither"
            )
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certfile, keyfile)
    except (OSError, ssl.SSLError) as error:
        raise UserInputError(
            f"server.certfile={certfile} cannot be used: {error}",
            hint="a PEM file with the certificate; the key in it too, or in server.keyfile",
        ) from None
