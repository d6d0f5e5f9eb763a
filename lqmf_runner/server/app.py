"""The Litestar application: routes, errors, OpenAPI, and the places where middleware and lifespan hooks go."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from litestar import Litestar
from litestar.datastructures import State
from litestar.openapi import OpenAPIConfig
from litestar.types import ControllerRouterHandler, Middleware

from .. import __version__
from ..config import ServerConfig
from .answers.errors import handle_error
from .answers.sessions import Sessions
from .docs import docs_routes
from .docs.openapi import OpenAPIDocument
from .pool.pool import ModelPool
from .routes import (
    decisions,
    embeddings,
    models,
    native_chat,
    openai_chat,
    openai_completions,
    status,
    tokens,
)
from .services import Readiness, Services
from .watch.observe import NoObserver, Observer

ROUTES: tuple[ControllerRouterHandler, ...] = (
    status.status,
    status.health,
    status.ready,
    models.loaded_models,
    models.available_models,
    models.load_model,
    models.unload_model,
    native_chat.chat,
    native_chat.forget_session,
    models.openai_models,
    models.openai_model,
    openai_chat.chat_completions,
    openai_completions.completions,
    decisions.system_one,
    decisions.decide,
    embeddings.embeddings,
    tokens.tokenize,
    tokens.detokenize,
)

Lifespan = Callable[[Litestar], AbstractAsyncContextManager[None]]


def create_app(
    config: ServerConfig,
    pool: ModelPool,
    *,
    observer: Observer | None = None,
    readiness: Readiness | None = None,
    middleware: Sequence[Middleware] = (),
    routes: Sequence[ControllerRouterHandler] = (),
    lifespan: Sequence[Lifespan] = (),
) -> Litestar:
    """The application over a pool, which it closes when it ends.

    Args:
        observer: is told about every request for an answer.
        readiness: what /ready waits for; nothing by default.
        middleware: outermost first; an error that it raises gets the shape of its route (see `errors.send_error`).
        routes: more of them.
        lifespan: entered at the start, left at the end, before the pool is closed.
    """
    sessions = Sessions(
        limit=config.max_sessions,
        max_messages=config.session_messages,
        timeout_s=config.session_timeout_s,
    )
    document = OpenAPIDocument(path="/")
    services = Services(config, pool, observer or NoObserver(), readiness or Readiness(), sessions)

    @asynccontextmanager
    async def pool_lifespan(app: Litestar) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await pool.close()

    return Litestar(
        route_handlers=[*ROUTES, *routes, *docs_routes(document)],
        exception_handlers={Exception: handle_error},
        middleware=list(middleware),
        lifespan=[pool_lifespan, *lifespan],
        state=State({"services": services}),
        request_max_body_size=int(config.max_body_mb * 1e6),
        openapi_config=OpenAPIConfig(
            title="lqmf-runner",
            version=__version__,
            path="/openapi.json",
            use_handler_docstrings=True,
            render_plugins=[document],
        ),
        logging_config=None,
    )
