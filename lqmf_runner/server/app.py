"""The Litestar application: the routes over a server's state, with their documentation and their errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from litestar import Litestar
from litestar.datastructures import State
from litestar.openapi import OpenAPIConfig

from .. import __version__
from .asgi import App
from .docs import docs_routes
from .docs.openapi import OpenAPIDocument
from .guards.hosts import HostPolicy
from .page import page_route
from .state import ServerState

Lifespan = Callable[[Litestar], AbstractAsyncContextManager[None]]


def create_app(state: ServerState, *, lifespan: Sequence[Lifespan] = (), page: App | None = None) -> Litestar:
    """The application. It closes the pool of models when it ends.

    Args:
        lifespan: entered at the start, left at the end, before the pool is closed.
        page: answers what is under `PAGE`.
    """
    document = OpenAPIDocument(state.routes)

    @asynccontextmanager
    async def pool_lifespan(app: Litestar) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await state.pool.close()

    hosts = HostPolicy(state.config.host, state.config.allowed_hosts)
    return Litestar(
        route_handlers=[*state.routes, *docs_routes(document), *([page_route(page, hosts)] if page else [])],
        exception_handlers={Exception: state.errors.handle},
        lifespan=[pool_lifespan, *lifespan],
        state=State({"server": state}),
        request_max_body_size=int(state.config.max_body_mb * 1e6),
        openapi_config=OpenAPIConfig(
            title="lqmf-runner",
            version=__version__,
            path="/openapi.json",
            use_handler_docstrings=True,
            render_plugins=[document],
        ),
        logging_config=None,
    )
