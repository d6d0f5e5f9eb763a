"""GET /metrics and /stats: statistics of the server, for Prometheus and as JSON."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response

from ..route import route
from ..state import state_of
from ..watch.prometheus import CONTENT_TYPE, exposition


@route("GET", "/metrics", tag="Status", media_type="text/plain")
async def prometheus_metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Statistics of the server, for Prometheus."""
    state = state_of(request)
    await state.pool.refresh_memory()
    return Response(exposition(state.metrics), media_type=CONTENT_TYPE)


@route("GET", "/stats", tag="Status")
async def stats(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Statistics of the server as JSON, in seconds, tokens, and MB of 10^6 bytes."""
    state = state_of(request)
    await state.pool.refresh_memory()
    return state.metrics.stats()
