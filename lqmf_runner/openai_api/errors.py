"""Errors in the JSON that OpenAI's clients read."""

from __future__ import annotations

import re

import msgspec

from ..errors import ContextLengthError, EngineError, LqmfError, ModelNotFoundError, RemoteEngineError

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
    415: "unsupported_media_type",
    429: "rate_limit_exceeded",
    503: "unavailable",
    507: "insufficient_memory",
}
_LONGEST_TEXT, _LONGEST_PARAM = 600, 200
# An address, or a path of two or more parts that is not one of our routes.
_PLACES = re.compile(
    r"\w+://[^\s'\"]+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|(?<![\w.}])/(?!v1/|models/)[\w.@+-]+(?:/[\w.@+-]+)+/?"
)


class OpenAIErrorDetail(msgspec.Struct):
    """The error, in the form that OpenAI's clients read."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class OpenAIError(msgspec.Struct):
    """An error on OpenAI's routes."""

    error: OpenAIErrorDetail


def public_error(error: Exception) -> LqmfError:
    """The error in a form that a client may see. Errors that are only for the log become a general one."""
    if isinstance(error, RemoteEngineError):
        return error
    if isinstance(error, LqmfError) and (error.status != 500 or not isinstance(error, EngineError)):
        return error
    return EngineError("the request failed inside the server", hint="the server's log says why")


def error_body(error: LqmfError) -> OpenAIError:
    """The JSON body of an error; `param` names the field of the request that is wrong, where one is."""
    message, hint = without_places(error.message), without_places(error.hint)
    kind = _TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    text = f"{message} ({hint})" if hint else message
    param = getattr(error, "param", None)
    return OpenAIError(
        OpenAIErrorDetail(text, kind, param and _cut(param, _LONGEST_PARAM), error_code(error))
    )


def error_code(error: LqmfError) -> str:
    """A word for programs: the error's own `code`, or one that follows from its class and status."""
    own = getattr(error, "code", None)
    if own:
        return str(own)
    if isinstance(error, ModelNotFoundError):
        return "model_not_found"
    if isinstance(error, ContextLengthError):
        return "context_length_exceeded"
    return _CODES.get(error.status, "server_error" if error.status >= 500 else "invalid_request")


def without_places(text: str) -> str:
    """The text without paths and addresses of the host, which no message over HTTP may name.

    A long text, which repeats a long value of the request, loses its middle.
    """
    return _PLACES.sub("…", _cut(text, _LONGEST_TEXT))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - most // 2 :]}"
