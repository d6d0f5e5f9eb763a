"""The route of the web page, and the way of a browser from / to it."""

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
    """Hands all that is under `PAGE` to the page, which sees whole paths.

    Gradio writes the host that a proxy names (X-Forwarded-Host) into the page, as its own address. One that is none
    of `hosts` does not get there: anybody can send that header. X-Gradio-Server, which Gradio reads in the same way,
    never gets there.
    """

    def permitted(given: bytes) -> bool:
        return all(hosts.permits(host.strip()) for host in given.decode("latin-1").split(","))

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        """The web page."""
        # Litestar cuts off the mount's path and puts a slash at the end; only `raw_path` stays as it came.
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
    """A middleware that sends browsers from / to the page. Programs get the status of the server there."""

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
