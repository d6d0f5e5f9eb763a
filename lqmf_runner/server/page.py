"""The route of the web page, and the redirect of a browser from / to it."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import unquote

from litestar import asgi
from litestar.handlers import ASGIRouteHandler

from .asgi import App, Receive, Scope, Send, header
from .guards.hosts import HostPolicy

PAGE = "/ui"
_FORWARDED = b"x-forwarded-host"
_GRADIO_SERVER = b"x-gradio-server"


def page_route(page: App, hosts: HostPolicy) -> ASGIRouteHandler:
    """Passes all requests below `PAGE` to the page, with their full paths.

    Gradio writes the host that a proxy names (X-Forwarded-Host) into the page as its own address. Anybody can send that
    header, so it is removed unless it is one of `hosts`. X-Gradio-Server, which Gradio reads in the same way, is always
    removed.
    """

    def permitted(given: bytes) -> bool:
        return all(hosts.permits(host.strip()) for host in given.decode("latin-1").split(","))

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        """The web page."""
        # Litestar removes the mount's path and appends a slash; only `raw_path` is unchanged.
        path = unquote(scope["raw_path"].decode("latin-1"))
        headers = [
            (name, value)
            for name, value in scope["headers"]
            if name != _GRADIO_SERVER and (name != _FORWARDED or permitted(value))
        ]
        own = {**scope, "path": path, "root_path": "", "app": None, "headers": headers}
        await page(cast(Scope, own), receive, send)

    return asgi(PAGE, is_mount=True, copy_scope=True)(handler)


class FrontDoor:
    """A middleware that redirects browsers from / to the page. Programs get the status of the server there."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_root = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/"
        if is_root and b"text/html" in (header(scope, b"accept") or b""):
            headers = [(b"location", f"{PAGE}/".encode()), (b"vary", b"accept"), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 307, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._app(scope, receive, send)
