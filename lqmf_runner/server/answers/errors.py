"""The one place where errors become HTTP responses: OpenAI's shape on its routes, ours on the others."""

from __future__ import annotations

import logging
import math
import re
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from ...errors import (
    ContextLengthError,
    EngineError,
    FieldError,
    LqmfError,
    ModelNotFoundError,
    RemoteEngineError,
)
from ..guards.asgi import Scope, Send

log = logging.getLogger(__name__)

OPENAI_PATHS = ("/v1/", "/tokenize", "/detokenize")
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_CODES = {
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "request_too_large",
    429: "rate_limit_exceeded",
    503: "unavailable",
    507: "insufficient_memory",
}
# An address, or a path of two or more parts that is none of our routes.
_PLACES = re.compile(
    r"\w+://[^\s'\"]+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|(?<![\w.}])/(?!v1/|models/)[\w.@+-]+(?:/[\w.@+-]+)+/?"
)


class HttpError(LqmfError):
    """An error that only HTTP knows (no such route, method, type of body, too large)."""

    def __init__(
        self, status: int, message: str, *, hint: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.headers = headers or {}


class OpenAIErrorDetail(msgspec.Struct):
    """What went wrong, as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class OpenAIError(msgspec.Struct):
    """An error on OpenAI's routes."""

    error: OpenAIErrorDetail


class NativeError(msgspec.Struct):
    """An error on the native routes: its kind, what happened, and what to do next."""

    error: str
    detail: str
    hint: str


def error_body(error: Exception, path: str) -> OpenAIError | NativeError:
    """The body that belongs to an error, in the shape of the route."""
    known = as_known(error)
    message, hint = _without_places(known.message), _without_places(known.hint)
    code = _code(known)
    if not path.startswith(OPENAI_PATHS):
        return NativeError(code, message, hint)
    kind = _TYPES.get(known.status, "server_error" if known.status >= 500 else "invalid_request_error")
    text = f"{message} ({hint})" if hint else message
    return OpenAIError(OpenAIErrorDetail(text, kind, getattr(known, "param", None), code))


def error_headers(error: Exception) -> dict[str, str]:
    """Headers that belong to an error: `Retry-After` where it is worth trying again."""
    known = as_known(error)
    headers = dict(getattr(known, "headers", {}))
    if known.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(known.retry_after_s)))
    return headers


def as_known(error: Exception) -> LqmfError:
    """The error as one of ours. What only the log may know becomes a general one."""
    if isinstance(error, HTTPException):
        return _from_http(error)
    if isinstance(error, RemoteEngineError):
        return error
    if isinstance(error, LqmfError) and (error.status != 500 or not isinstance(error, EngineError)):
        return error
    return EngineError("the request failed inside the server", hint="the server's log says why")


def handle_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Litestar's exception handler for everything."""
    known = as_known(error)
    if known is not error and not isinstance(error, HTTPException):
        log.error("%s %r failed", request.method, request.scope["path"], exc_info=error)
    return Response(
        error_body(error, request.scope["path"]),
        status_code=known.status,
        headers=error_headers(error),
        media_type="application/json",
    )


async def send_error(error: Exception, scope: Scope, send: Send) -> None:
    """Answer with an error from a middleware."""
    body = msgspec.json.encode(error_body(error, scope["path"]))
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **error_headers(error),
    }
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": as_known(error).status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})


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


def _code(error: LqmfError) -> str:
    own = getattr(error, "code", None)
    if own:
        return str(own)
    if isinstance(error, ModelNotFoundError):
        return "model_not_found"
    if isinstance(error, ContextLengthError):
        return "context_length_exceeded"
    return _CODES.get(error.status, "server_error" if error.status >= 500 else "invalid_request")


def _without_places(text: str) -> str:
    """No message that goes over HTTP names a path or an address of the host."""
    return _PLACES.sub("…", text)
