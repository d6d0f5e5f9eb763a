"""The state of a running server: one object that handlers, guards and the process share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from litestar import Request
from litestar.handlers import HTTPRouteHandler

from ..config import ServerConfig
from ..engine import EngineClient
from ..errors import LqmfError
from .errors import ErrorShapes
from .pool.pool import ModelPool
from .pool.pooled_model import PooledModel
from .responses import KeptResponses
from .sessions import Sessions
from .versions.promotion import Promotions
from .versions.registry import Registry
from .versions.traffic import Traffic
from .watch.metrics import Metrics
from .watch.observe import Observer, Observers, Watcher


@dataclass
class Lifecycle:
    """Whether the server accepts requests, and the requests that are running.

    Attributes:
        waiting_for: models of the start that are not loaded yet.
        draining: the server is stopping and takes no new requests.
        deadlines: of the requests being answered, each with the error for the case that it passes.
    """

    waiting_for: set[str] = field(default_factory=set)
    draining: bool = False
    deadlines: dict[asyncio.Timeout, LqmfError] = field(default_factory=dict)

    @property
    def running(self) -> int:
        """How many requests are being answered."""
        return len(self.deadlines)

    def not_ready(self) -> str:
        """Why the server is not ready; empty when it is."""
        if self.draining:
            return "the server is draining"
        if self.waiting_for:
            return f"loading {', '.join(sorted(self.waiting_for))}"
        return ""

    def end_all(self, error: LqmfError) -> None:
        """End every request now, with this error."""
        now = asyncio.get_running_loop().time()
        for deadline in list(self.deadlines):
            if not deadline.expired():
                self.deadlines[deadline] = error
                deadline.reschedule(now)


@dataclass(frozen=True)
class ServerState:
    """One per server.

    Attributes:
        pool: the loaded models.
        metrics: what was counted since the start.
        observer: gets every request for an answer: the metrics first, then the others.
        traffic: which model answers which name.
        promotions: puts another version in place.
        sessions: conversations that are kept for clients.
        responses: kept for clients of the Responses API.
        routes: what the server answers.
        errors: the shape of an error on each path.
        lifecycle: loading, ready or draining, and the requests being answered.
    """

    config: ServerConfig
    pool: ModelPool
    metrics: Metrics
    observer: Observer
    traffic: Traffic
    promotions: Promotions
    sessions: Sessions
    responses: KeptResponses
    routes: tuple[HTTPRouteHandler, ...]
    errors: ErrorShapes
    lifecycle: Lifecycle = field(default_factory=Lifecycle)

    @contextlib.asynccontextmanager
    async def lease(self, name: str) -> AsyncGenerator[tuple[PooledModel, EngineClient], None]:
        """Hold the model that answers a name; raises like `ModelPool.lease`."""
        target = await self.traffic.target(name)
        async with self.pool.lease(target) as held:
            yield held


def create_state(
    config: ServerConfig,
    pool: ModelPool,
    routes: Iterable[HTTPRouteHandler],
    *,
    watchers: Sequence[Watcher] = (),
    registry: Registry | None = None,
    shares: Mapping[str, Mapping[str, float]] | None = None,
) -> ServerState:
    """The state of a server at its start.

    Args:
        watchers: get requests after the metrics.
        registry: of versions; None where nothing is tracked.
        shares: which versions answer a name at the start, see `Traffic`.
    """
    routes = tuple(routes)
    metrics = Metrics(lambda: pool.names)
    sessions = Sessions(
        limit=config.max_sessions,
        max_messages=config.session_messages,
        timeout_s=config.session_timeout_s,
    )
    responses = KeptResponses(
        limit=config.max_responses,
        max_bytes=config.responses_mb * 1e6,
        timeout_s=config.session_timeout_s,
    )
    observer = Observers(metrics, *watchers) if watchers else metrics
    traffic = Traffic(registry, shares)
    return ServerState(
        config=config,
        pool=pool,
        metrics=metrics,
        observer=observer,
        traffic=traffic,
        promotions=Promotions(pool, traffic, registry),
        sessions=sessions,
        responses=responses,
        routes=routes,
        errors=ErrorShapes(routes),
    )


def state_of(request: Request[Any, Any, Any]) -> ServerState:
    """The state of the server that handles the request."""
    return cast(ServerState, request.app.state["server"])
