"""The page as an ASGI application, which is built at the first visit: importing Gradio takes seconds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import Any, cast

from .config import PATH, PageConfig

_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "base-uri 'self'; form-action 'self'; object-src 'none'; frame-ancestors 'none'"
)
_UNCHANGING = (f"{PATH}/assets/", f"{PATH}/static/")  # their names have a hash of the content
_HEADERS = [(b"content-security-policy", _POLICY.encode())]
_KEPT = [(b"cache-control", b"private, max-age=86400")]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Page:
    """The ASGI application under `PATH`."""

    def __init__(self, config: PageConfig) -> None:
        self._config = config
        self._app: Any = None
        self._building = asyncio.Lock()
        self._closed = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, after building the page if it is the first one."""
        async with self._building:
            if self._app is None:
                await self._build()
        added = _HEADERS + (_KEPT if scope["path"].startswith(_UNCHANGING) else [])
        names = {name for name, _ in added}

        async def send_guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = [item for item in message.get("headers", ()) if item[0].lower() not in names]
                message = {**message, "headers": headers + added}
            await send(message)

        await self._app(scope, receive, send_guarded)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """The server's lifetime; what the page has started is ended with it."""
        try:
            yield
        finally:
            self._closed.set()
            if self._running is not None:
                await self._running

    async def _build(self) -> None:
        create_page = await asyncio.to_thread(_import)

        app = await asyncio.to_thread(create_page, self._config)
        started = asyncio.Event()

        async def run() -> None:
            """Enters and leaves the application's lifespan in one task, as anyio wants it."""
            async with cast(Any, app).router.lifespan_context(app):
                started.set()
                await self._closed.wait()

        self._running = asyncio.create_task(run())
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait((waiting, self._running), return_when=asyncio.FIRST_COMPLETED)
        if self._running.done():
            waiting.cancel()
            self._running.result()
        self._app = app


def _import() -> Callable[[PageConfig], Any]:
    from .page import create_page

    return create_page
