"""CORS: pages of configured origins may do everything that a page can be allowed to do."""

from __future__ import annotations

from collections.abc import Iterable

from ...config.origins import browser_origin
from ..asgi import Headers, Scope, Send, header

_METHODS = b"GET, HEAD, POST, DELETE, OPTIONS"
_HEADERS = b"authorization, content-type, x-api-key, x-request-id"
_EXPOSED = b"retry-after, x-request-id, x-model-version"


class CorsPolicy:
    """The allowed origins, and the headers that report them to browsers.

    Args:
        origins: as in `server.cors_origins`; "*" is any.
    """

    def __init__(self, origins: Iterable[str] = ()) -> None:
        self._origins = frozenset(browser_origin(origin) for origin in origins)

    def __bool__(self) -> bool:
        return bool(self._origins)

    def allows(self, origin: bytes | None) -> bool:
        """Whether a page of this origin may use the server."""
        return origin is not None and bool(self._origins & {"*", origin.decode("latin-1").lower()})

    def headers(self, origin: bytes | None) -> Headers:
        """Headers of every answer. They let allowed pages read it, and prevent caches from mixing origins."""
        if not self._origins:
            return []
        vary: Headers = [(b"vary", b"Origin")]
        if origin is None or not self.allows(origin):
            return vary
        allowed: Headers = [
            *vary,
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
        ]
        if "*" not in self._origins:  # a named origin may send cookies, for example of a proxy's login
            allowed.append((b"access-control-allow-credentials", b"true"))
        return allowed


async def answer_preflight(scope: Scope, send: Send) -> None:
    """Allow what a page of an allowed origin asks for.

    The headers are those that it names, since clients send their own (OpenAI's SDK has `x-stainless-*`). A page on
    the public web may speak to this server on a private address.
    """
    headers: Headers = [
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", header(scope, b"access-control-request-headers") or _HEADERS),
        (b"access-control-max-age", b"600"),
    ]
    for network in (b"private", b"local"):
        if header(scope, b"access-control-request-%s-network" % network) == b"true":
            headers.append((b"access-control-allow-%s-network" % network, b"true"))
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
