"""The real application with scripted engines behind its guards, on a real port."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import uvicorn
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from lqmf_runner.config import ServerConfig
from lqmf_runner.server.app import Lifespan, create_app
from lqmf_runner.server.asgi import App
from lqmf_runner.server.guards.cors import CorsPolicy
from lqmf_runner.server.guards.keys import KeyRing, parse_keys
from lqmf_runner.server.launch import guard
from lqmf_runner.server.page import FrontDoor
from lqmf_runner.server.pool.pool import ModelPool
from lqmf_runner.server.process.http_connection import limited_protocol
from lqmf_runner.server.routes import ROUTES
from lqmf_runner.server.state import ServerState, create_state
from lqmf_runner.server.versions.registry import Registry
from lqmf_runner.server.watch.access_log import open_access_log
from lqmf_runner.ui.config import PageConfig
from lqmf_runner.ui.mount import Page

from .fakes import FakeCatalog, FakeEngine, Script, create_loader, hello


@dataclass
class Guarded:
    client: httpx.AsyncClient
    app: Litestar
    state: ServerState
    port: int
    engines: dict[str, FakeEngine] = field(default_factory=dict)


@contextlib.asynccontextmanager
async def guarded_server(
    script: Script = hello,
    *,
    keys: str = "",
    run_dir: Path | None = None,
    routes: Sequence[HTTPRouteHandler] = ROUTES,
    outputs: Path | None = None,
    models_dir: str = "quantized-models",
    sizes: dict[str, float] | None = None,
    registry: Registry | None = None,
    shares: Mapping[str, Mapping[str, float]] | None = None,
    **options: Any,
) -> AsyncIterator[Guarded]:
    """`options` are of `ServerConfig`, `keys` as in LQMF_API_KEYS. With `outputs`, the web page is there."""
    engines: dict[str, FakeEngine] = {}
    config = ServerConfig(**options)
    catalog = FakeCatalog(sizes or {"m": 100.0, "other": 100.0})
    pool = ModelPool(catalog, config, load=create_loader(script, engines))
    with socket.create_server(("127.0.0.1", 0)) as sock, contextlib.ExitStack() as files:
        port = sock.getsockname()[1]
        ring = KeyRing(parse_keys(keys) if keys else ())
        state = create_state(config, pool, routes, registry=registry, shares=shares)
        page = None
        if outputs is not None:
            url = f"http://127.0.0.1:{port}"
            page = Page(
                PageConfig(
                    url, outputs, run_dir or outputs, models_dir, False, None, ring.required, 1_000_000
                )
            )
        lifespan: list[Lifespan] = [lambda app: page.running()] if page else []
        app = create_app(state, lifespan=lifespan, page=page)
        front = FrontDoor(cast(App, app)) if page else cast(App, app)
        log = files.enter_context(open_access_log(config, run_dir)) if run_dir else None
        server = uvicorn.Server(
            uvicorn.Config(
                cast(Any, guard(front, state, ring, log=log)),
                loop="none",
                http=limited_protocol(config.limits, state.errors, CorsPolicy(config.cors_origins)),
                ws="none",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=5,
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                yield Guarded(client, app, state, port, engines)
        finally:
            server.should_exit = True
            await serving


def walk(app: Litestar) -> set[tuple[str, str]]:
    """Every method and path of the application, with a model's name for each parameter."""
    found = set()
    for route in app.routes:
        path = re.sub(r"\{[^}]*\}", "m", route.path)
        methods = route.methods if isinstance(route, HTTPRoute) else {"GET", "POST"}
        found |= {(method, path) for method in methods}
    return found
