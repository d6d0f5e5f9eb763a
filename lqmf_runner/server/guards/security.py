"""Access to the server: keys and roles, the Host and Origin checks, and security headers for browsers.

Everything is checked before a route is chosen, so no route, page or 404 can be missed.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from ...errors import ForbiddenError, LqmfError, UnauthorizedError, UserInputError
from ..asgi import App, Headers, Message, Receive, Scope, Send, header
from ..errors import ErrorShapes
from .cors import CorsPolicy, answer_preflight
from .hosts import HostPolicy
from .keys import ApiKey, KeyRing

PROBES = ("/health", "/ready")
"""Paths that need no key: load balancers and Kubernetes cannot send one."""
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_SECURITY_HEADERS: dict[bytes, bytes] = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"content-security-policy": b"frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}
_MOST_KNOWN_HOSTS = 64


class Security:
    """The middleware. The key of an accepted request is in `scope["state"]["api_key"]`."""

    def __init__(
        self,
        app: App,
        *,
        keys: KeyRing,
        hosts: HostPolicy,
        errors: ErrorShapes,
        cors: CorsPolicy | None = None,
    ) -> None:
        self._app = app
        self._keys = keys
        self._hosts = hosts
        self._errors = errors
        self._cors = cors or CorsPolicy()
        self._known_hosts: dict[bytes, bool] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # not supported, and a browser allows any page to open one
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin = header(scope, b"origin")
        shared = self._cors.allows(origin)
        foreign = origin is not None and not _is_own(scope, origin)
        cors = self._cors.headers(origin)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: Headers = list(message.get("headers", ()))
                present = {name.lower() for name, _ in headers}
                headers += [item for item in _SECURITY_HEADERS.items() if item[0] not in present]
                message = {**message, "headers": headers + cors}
            await send(message)

        try:
            self._check_host(scope)
            if foreign and not shared:
                _check_method(scope)
            if shared and scope["method"] == "OPTIONS" and header(scope, b"access-control-request-method"):
                await answer_preflight(scope, send_guarded)
                return
            self._check_key(scope, foreign=foreign)
        except LqmfError as error:
            await self._errors.send(error, scope, send_guarded)
            return
        await self._app(scope, receive, send_guarded)

    def _check_host(self, scope: Scope) -> None:
        given = [value for name, value in scope["headers"] if name == b"host"]
        if len(given) == 1:
            known = self._known_hosts.get(given[0])
            if known is None:
                known = self._hosts.permits(given[0].decode("latin-1"))
                # Only a few are cached: any address may be permitted, and clients must not fill the memory.
                if known and len(self._known_hosts) < _MOST_KNOWN_HOSTS:
                    self._known_hosts[given[0]] = True
            if known:
                return
        if not given:
            # Browsers always send it. HTTP/1.0 does not require it, and probes of load balancers omit it.
            if scope.get("http_version") == "1.0" or scope["path"] in PROBES:
                return
            raise UserInputError("the request has no Host header", hint="HTTP/1.1 requires one")
        raise UserInputError(
            "the Host header does not name this server",
            hint="reach it under the address it prints, or add the name to server.allowed_hosts",
        )

    def _check_key(self, scope: Scope, *, foreign: bool) -> None:
        state = scope.setdefault("state", {})
        if not self._keys.required:
            return
        presented = _presented_key(scope, with_password=not foreign)
        if scope["path"] in PROBES:
            state["stranger"] = presented is None or self._keys.find(presented) is None
            return
        if presented is None:
            raise _unauthorized(
                scope,
                "this server requires an API key",
                "send Authorization: Bearer <key>, or X-API-Key; in a browser it is the password",
            )
        key = self._keys.find(presented)
        if key is None:
            raise _unauthorized(scope, "the API key is not valid", "ask who runs this server for one")
        state["api_key"] = key


def identity(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """Whose request it is: the hash of its key, empty where there are no keys.

    What belongs to one key must not be seen by another.
    """
    key: ApiKey | None = connection.scope["state"].get("api_key")
    return key.sha256 if key is not None else ""


def is_stranger(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
    """Whether a probe came without a key although there are keys. It gets no model names."""
    return bool(connection.scope["state"].get("stranger"))


def require_admin(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard of routes. If there are keys, it permits only those with the role admin.

    Raises:
        ForbiddenError: the request's key has not that role.
    """
    key: ApiKey | None = connection.scope["state"].get("api_key")
    if key is not None and not key.admin:
        raise ForbiddenError(
            "this key may not load, unload, scale or replace models", hint="use a key with the role admin"
        )


def _is_own(scope: Scope, origin: bytes) -> bool:
    """Whether the origin is our own. The scheme is ignored, because it differs behind a proxy that ends TLS."""
    return origin.partition(b"://")[2].lower() == (header(scope, b"host") or b"").lower()


def _check_method(scope: Scope) -> None:
    """Refuse requests of other sites' pages that could change something."""
    if scope["method"] not in SAFE_METHODS:
        raise ForbiddenError(
            "this request comes from a page of another site",
            hint="to allow it, add the site to server.cors_origins",
        )


def _unauthorized(scope: Scope, message: str, hint: str) -> UnauthorizedError:
    """The error that asks for a key. For a page it makes the browser ask for a password."""
    error = UnauthorizedError(message, hint=hint)
    if scope["method"] == "GET" and b"text/html" in (header(scope, b"accept") or b""):
        error.headers = {"www-authenticate": 'Basic realm="the password is the API key", charset="UTF-8"'}
    return error


def _presented_key(scope: Scope, *, with_password: bool) -> bytes | None:
    """The key of a request. A password is ignored for foreign pages, because browsers add it by themselves."""
    scheme, _, given = (header(scope, b"authorization") or b"").partition(b" ")
    if scheme.lower() == b"bearer" and given.strip():
        return given.strip()
    own = header(scope, b"x-api-key")
    if own is None and with_password and scheme.lower() == b"basic":
        return _password(given.strip())
    return own


def _password(credentials: bytes) -> bytes | None:
    """The key that a user gave the browser as a password, under any name."""
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2] or None
    except binascii.Error:
        return None
