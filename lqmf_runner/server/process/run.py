"""Runs the application on a socket: bind, load the models of the start, serve until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import socket
from collections.abc import Callable, Sequence

import uvicorn

from ...config import ServerConfig
from ...errors import LqmfError, UserInputError
from ..guards.asgi import App
from ..guards.limits import InFlight
from ..pool.pool import ModelPool
from ..services import Readiness
from .lifecycle import DrainingServer
from .protocol import limited_protocol
from .registry import DRAINING, READY, ServerRecord, running_servers

log = logging.getLogger(__name__)


def bind(config: ServerConfig) -> socket.socket:
    """The listening socket.

    Raises:
        UserInputError: the port is taken, or the host is not one of this machine's.
    """
    where = f"{config.host}:{config.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise UserInputError(f"server.host={config.host} is not an address: {error}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(2048)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise _taken(config.port, where) from None
        if error.errno == errno.EACCES:
            raise UserInputError(f"port {config.port} is not allowed", hint="choose one above 1023") from None
        raise UserInputError(
            f"cannot listen on {where}: {error.strerror}", hint="check server.host"
        ) from None
    return sock


def _taken(port: int, where: str) -> UserInputError:
    ours = [record for record in running_servers() if record.port == port]
    if ours:
        return UserInputError(
            f"a server runs on port {port} already (process {ours[0].pid})",
            hint=f"end it with mode=stop server.port={port}, or choose another port",
        )
    return UserInputError(
        f"port {port} is taken: something else listens on {where}",
        hint="stop it, or choose another with server.port= (0 takes any free one)",
    )


def url_of(sock: socket.socket, *, tls: bool = False) -> str:
    """Where the socket can be reached from this machine."""
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"{'https' if tls else 'http'}://{netloc}"


async def serve(
    app: App,
    sock: socket.socket,
    *,
    config: ServerConfig,
    pool: ModelPool,
    preload: Sequence[str],
    readiness: Readiness,
    in_flight: InFlight,
    record: ServerRecord,
    on_ready: Callable[[], None],
) -> None:
    """Serve until a signal comes. The models of the start are loaded while /health answers already.

    Args:
        app: with its guards.
        record: kept up to date on disk, so that mode=status and mode=stop find the server.

    Raises:
        LqmfError: one of the models could not be loaded.
    """
    readiness.waiting_for = set(preload)

    def drain() -> None:
        readiness.draining = True
        record.enter(DRAINING)

    def ready() -> None:
        gc.freeze()  # what the start has made stays: no collection has to look at it while tokens wait
        record.enter(READY)
        on_ready()

    server = DrainingServer(
        uvicorn.Config(
            app,
            loop="none",
            http=limited_protocol(config.limits),
            ws="none",
            log_config=None,
            log_level="error",  # its warnings are about malformed requests, which anybody may send without end
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            ssl_certfile=config.certfile,
            ssl_keyfile=config.keyfile,
        ),
        in_flight,
        drain_s=config.drain_timeout_s,
        on_drain=drain,
        on_abort=record.remove,
    )
    loading = asyncio.create_task(_preload(server, pool, preload, readiness, ready))
    try:
        await server.serve(sockets=[sock])
    finally:
        record.remove()
        loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loading


async def _preload(
    server: uvicorn.Server,
    pool: ModelPool,
    names: Sequence[str],
    readiness: Readiness,
    on_ready: Callable[[], None],
) -> None:
    try:
        for name in names:
            await pool.load(name)
            readiness.waiting_for.discard(name)
    except LqmfError:
        if readiness.draining:  # it was told to stop before it was ready, which is no failure of the load
            return
        server.should_exit = True
        raise
    on_ready()
