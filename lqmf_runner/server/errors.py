"""The only place where errors become HTTP responses.

They are in OpenAI's or Ollama's shape on their routes, in ours on the others.
"""

from __future__ import annotations

import difflib
import logging
import math
import re
from collections.abc import Iterable
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.handlers import HTTPRouteHandler

from ..errors import FieldError, LqmfError
from ..ollama_api.answers import ollama_error
from ..ollama_api.schemas import OllamaError
from ..openai_api.errors import OpenAIError, error_code, public_error, without_places
from ..openai_api.errors import error_body as openai_error
from .asgi import Scope, Send
from .route import NATIVE, OLLAMA, OPENAI, ErrorShape, about

_LONGEST_MISTYPED = 100
log = logging.getLogger(__name__)


class HttpError(LqmfError):
    """An error of HTTP itself (unknown route, method, type of body, too large)."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        hint: str = "",
        headers: dict[str, str] | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.headers = headers or {}


class NativeError(msgspec.Struct):
    """An error on the native routes: its kind, what happened, and what to do next."""

    error: str
    detail: str
    hint: str


ERROR_BODIES: dict[ErrorShape, type[msgspec.Struct]] = {
    OPENAI: OpenAIError,
    OLLAMA: OllamaError,
    NATIVE: NativeError,
}
"""The bodies of errors by their shape."""


class ErrorShapes:
    """Errors in the shape of their route. A path without a route takes the shape of routes with the same beginning."""

    def __init__(self, routes: Iterable[HTTPRouteHandler] = ()) -> None:
        known = [about(handler) for handler in routes]
        self._shapes = [(_pattern(route.path), route.errors) for route in known]
        self._beginnings = {_beginning(route.path): route.errors for route in known if route.errors != NATIVE}
        self._by_rest = {_rest(route.path): route.path for route in known}

    def body(self, error: Exception, path: str) -> OpenAIError | OllamaError | NativeError:
        """The body of an error at this path."""
        shape = self._shape(path)
        if shape == OPENAI:
            return openai_error(as_known(error))
        if shape == OLLAMA:
            return ollama_error(as_known(error))
        return native_error(error)

    async def send(self, error: Exception, scope: Scope, send: Send) -> None:
        """Answer with an error from a middleware."""
        body = msgspec.json.encode(self.body(error, scope["path"]))
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **error_headers(error),
        }
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": as_known(error).status, "headers": raw})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def handle(self, request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
        """Litestar's exception handler for everything."""
        if isinstance(error, HTTPException) and error.status_code == 404:
            error = self._no_route(request.scope["path"])
        known = as_known(error)
        if known is not error and not isinstance(error, HTTPException):
            log.error("%s %r failed", request.method, request.scope["path"], exc_info=error)
        return Response(
            self.body(error, request.scope["path"]),
            status_code=known.status,
            headers=error_headers(error),
            media_type="application/json",
        )

    def _shape(self, path: str) -> ErrorShape:
        for pattern, shape in self._shapes:
            if pattern.fullmatch(path):
                return shape
        if OPENAI in self._beginnings.values() and "v1" in path.lower().split("/"):
            return OPENAI
        for beginning, shape in self._beginnings.items():
            if path.startswith(beginning):
                return shape
        meant = self._by_rest.get(_rest(path))
        return NATIVE if meant is None else self._shape(meant)

    def _no_route(self, path: str) -> HttpError:
        """The error for a path without a route. It suggests the most similar route."""
        meant = self._meant(path)
        hint = f"{meant} is meant, perhaps; GET /docs lists all" if meant else "GET /docs lists them"
        return HttpError(404, "there is no such route", hint=hint)

    def _meant(self, path: str) -> str | None:
        """The route with the same end but a missing, doubled or different prefix, or a similar one."""
        rest = _rest(path)
        if not rest or len(rest) > _LONGEST_MISTYPED:
            return None
        if rest in self._by_rest:
            return self._by_rest[rest]
        longer = [known for known in self._by_rest if known.startswith(f"{rest}/") and "{" not in known]
        found = longer or difflib.get_close_matches(rest, list(self._by_rest), n=1, cutoff=0.8)
        return self._by_rest[found[0]] if found else None


def native_error(error: Exception) -> NativeError:
    """The body of an error on a native route."""
    known = as_known(error)
    return NativeError(error_code(known), without_places(known.message), without_places(known.hint))


def error_headers(error: Exception) -> dict[str, str]:
    """Headers of an error, such as `Retry-After` if a retry makes sense."""
    known = as_known(error)
    headers = dict(getattr(known, "headers", {}))
    if known.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(known.retry_after_s)))
    return headers


def as_known(error: Exception) -> LqmfError:
    """The error as one of ours. Details that are only for the log become a general error."""
    if isinstance(error, HTTPException):
        return _from_http(error)
    return public_error(error)


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)))


def _rest(path: str) -> str:
    """What follows the last "v1" of a path: "chat/completions" of "/api/v1/chat/completions"."""
    parts = [part for part in path.lower().split("/") if part]
    while "v1" in parts:
        parts = parts[parts.index("v1") + 1 :]
    return "/".join(parts)


def _beginning(template: str) -> str:
    """The prefix that paths share with a route: "/v1/" for "/v1/models", "/tokenize" for itself."""
    first, slash, _ = template[1:].partition("/")
    return f"/{first}{slash}"


def _from_http(error: HTTPException) -> LqmfError:
    status = error.status_code
    headers = dict(error.headers or {})
    if status == 404:
        return HttpError(404, "there is no such route", hint="GET /docs lists them")
    if status == 405:
        return HttpError(405, "this route has no such method", hint="GET /docs lists them", headers=headers)
    if status == 413:
        return HttpError(413, "the request's body is too large", hint="server.max_body_mb sets the limit")
    if status >= 500:
        return HttpError(status, "the request failed inside the server", hint="the server's log says why")
    if isinstance(error, ValidationException):
        return FieldError(_words(error), param=None)
    return HttpError(status, error.detail or "the request is malformed", headers=headers)


def _words(error: ValidationException) -> str:
    """What Litestar says about query and path parameters, and about a body that is not there."""
    problems = (
        [entry for entry in error.extra if isinstance(entry, dict)] if isinstance(error.extra, list) else []
    )
    if any(entry.get("key") == "data" for entry in problems) or not problems:
        return "the body is missing; send a JSON object"
    return "; ".join(f"'{entry.get('key', '')}' is wrong: {entry.get('message', '')}" for entry in problems)
