"""GET /, /health and /ready."""

from __future__ import annotations

import time
from typing import Any

from litestar import Request, get

from ... import __version__
from ...errors import UnavailableError
from ..pool.pooled_model import READY
from ..services import services_of
from .schemas import Health, Readiness, ServerStatus


@get("/", tags=["Status"])
async def status(request: Request[Any, Any, Any]) -> ServerStatus:
    """Version, uptime, what is loaded, and where the documentation is."""
    services = services_of(request)
    loaded = [model.name for model in services.pool.models if model.state == READY]
    return ServerStatus("ok", "lqmf-runner", __version__, time.time() - services.started_at, loaded, "/docs")


@get("/health", tags=["Status"])
async def health() -> Health:
    """Whether the server is alive."""
    return Health("ok")


@get("/ready", tags=["Status"])
async def ready(request: Request[Any, Any, Any]) -> Readiness:
    """Whether the models of the start are loaded; 503 until then."""
    services = services_of(request)
    states = {model.name: model.state for model in services.pool.models}
    if waiting := services.readiness.reason():
        raise UnavailableError(waiting)
    return Readiness("ready", states)
