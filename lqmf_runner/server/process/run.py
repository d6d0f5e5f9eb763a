"""Runs the application on a socket: load the models of the start, serve until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import Callable, Sequence

import uvicorn

from ...errors import LqmfError
from ..asgi import App
from ..guards.cors import CorsPolicy
from ..state import ServerState
from .draining import DrainingServer
from .http_connection import limited_protocol
from .registry import DRAINING, READY, ServerRecord


async def serve(
    app: App,
    sock: socket.socket,
    state: ServerState,
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
    config, lifecycle = state.config, state.lifecycle
    lifecycle.waiting_for = set(record.models)

    def ready() -> None:
        gc.freeze()  # objects of the start stay; garbage collections skip them from now on
        record.enter(READY)
        on_ready()

    server = DrainingServer(
        uvicorn.Config(
            app,
            loop="none",
            http=limited_protocol(config.limits, state.errors, CorsPolicy(config.cors_origins)),
            ws="none",
            log_config=None,
            log_level="error",  # its warnings are about malformed requests, of which clients may send any number
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            ssl_certfile=config.certfile,
            ssl_keyfile=config.keyfile,
        ),
        lifecycle,
        drain_s=config.drain_timeout_s,
        on_drain=lambda: record.enter(DRAINING),
        on_abort=record.remove,
    )
    loading = asyncio.create_task(_preload(server, state, record.models, ready))
    try:
        await server.serve(sockets=[sock])
    finally:
        record.remove()
        loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loading


async def _preload(
    server: uvicorn.Server, state: ServerState, names: Sequence[str], on_ready: Callable[[], None]
) -> None:
    try:
        for name in names:
            await state.pool.load(name)
            state.lifecycle.waiting_for.discard(name)
    except LqmfError:
        if state.lifecycle.draining:  # stopped before it was ready: not a failure of the load
            return
        server.should_exit = True
        raise
    on_ready()
