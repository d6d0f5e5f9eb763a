"""The meaning of an endpoint's error statuses."""

from __future__ import annotations

import json
from typing import Any

from ...errors import (
    EndpointBusyError,
    EndpointLostError,
    EndpointSetupError,
    EndpointUnavailableError,
    InvalidRequestError,
    LqmfError,
    RemoteEngineError,
)

_MAX_TEXT = 300


def read_error(status: int, body: str, *, retry_after: str = "", connecting: bool = False) -> LqmfError:
    """The error for an endpoint's answer.

    Args:
        status: 400 or more.
        body: in OpenAI's shape, or any other.
        retry_after: the header of that name; it counts if it is a number of seconds.
        connecting: before the first request. Later, 403 is about the request: gateways that moderate answer so.
    """
    try:
        found = json.loads(body)
        text = error_text(found.get("error") or found)
    except (ValueError, AttributeError):
        text = body[:_MAX_TEXT]
    wait = retry_after_s(retry_after)
    if status == 429:
        return EndpointBusyError(f"the endpoint is busy: {text}", hint="try again later", retry_after_s=wait)
    if status == 503:
        return EndpointUnavailableError(
            f"the endpoint answered 503: {text}", hint="try again later", retry_after_s=wait
        )
    if status == 401 or (status == 403 and connecting):
        return EndpointSetupError(
            f"the endpoint refused the key: {text}", hint="set the variable that backend.api_key_env names"
        )
    if status == 403:
        return InvalidRequestError(
            f"the endpoint refused the request: {text}",
            hint="if it refuses them all, set the variable that backend.api_key_env names",
        )
    if status in (400, 413, 422):
        return InvalidRequestError(f"the endpoint refused the request: {text}")
    return RemoteEngineError(f"the endpoint answered {status}: {text}")


def read_unfinished(outside: str) -> RemoteEngineError:
    """The error for a stream that ended before its answer was complete.

    Args:
        outside: what it said that belongs to no event.
    """
    if not outside.strip():
        return EndpointLostError(
            "the endpoint broke off in the middle of an answer", hint="is it still running?"
        )
    try:
        found = json.loads(outside)
        text = error_text(found.get("error") or found)
    except (ValueError, AttributeError):
        text = " ".join(outside.split())[:_MAX_TEXT]
    return RemoteEngineError(
        f"the endpoint did not answer with a stream of events: {text}",
        hint="it has to stream where the body says stream: true",
    )


def error_text(error: Any) -> str:
    """The message of an error object, or whatever else stands in its place; cut to a readable length."""
    text = error.get("message", error) if isinstance(error, dict) else error
    return str(text)[:_MAX_TEXT]


def retry_after_s(value: str) -> float:
    """The seconds of a `Retry-After`, between one and an hour; one where it is a date or absent."""
    return float(min(max(int(value), 1), 3600)) if value.isdecimal() and len(value) < 10 else 1.0
