"""GET /, /health and /ready."""

from __future__ import annotations

from typing import Any

from litestar import Request

from ... import __version__
from ...errors import UnavailableError
from ..guards.security import is_stranger
from ..pool.pooled_model import READY
from ..route import route
from ..state import state_of
from .schemas import Health, Readiness, ServerStatus


@route("GET", "/", tag="Status")
async def status(request: Request[Any, Any, Any]) -> ServerStatus:
    """Version, uptime, loaded models, and the path of the documentation."""
    state = state_of(request)
    loaded = [model.name for model in state.pool.names if model.state == READY]
    return ServerStatus("ok", "lqmf-runner", __version__, state.metrics.uptime_s, loaded, "/docs")


@route("GET", "/health", tag="Status")
async def health() -> Health:
    """Whether the server is alive."""
    return Health("ok")


@route("GET", "/ready", tag="Status")
async def ready(request: Request[Any, Any, Any]) -> Readiness:
    """Whether the models of the start are loaded; 503 until then. With a key, also the names of the models."""
    state, stranger = state_of(request), is_stranger(request)
    if waiting := state.lifecycle.not_ready():
        raise UnavailableError("the server is not ready" if stranger else waiting)
    states = {} if stranger else {model.name: model.state for model in state.pool.names}
    return Readiness("ready", states)
