"""Declares a route: a handler with the data for its documentation and its errors.

    @route("POST", "/v1/shout", tag="OpenAI", errors=OPENAI, body=Body(Shout, {"A word": {"text": "hi"}}))
    async def shout(data: Shout) -> Shouted:
        \"""The text in capitals.\"""

The tuple `ROUTES` in `routes/__init__.py` lists the handlers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import litestar
import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.types import Guard

from .body import json_body

Method = Literal["GET", "POST", "DELETE"]
ErrorShape = Literal["openai", "ollama", "native"]
OPENAI: ErrorShape = "openai"
OLLAMA: ErrorShape = "ollama"
NATIVE: ErrorShape = "native"

MODEL = "name-of-a-model"
"""Stands for a model in examples. Where they are shown, a model of the server takes its place."""

_DECORATORS = {"GET": litestar.get, "POST": litestar.post, "DELETE": litestar.delete}
_KEY = "about"


@dataclass(frozen=True)
class Body:
    """The JSON body of a route.

    Attributes:
        kind: the type that the body is decoded to and checked against.
        examples: bodies that can be sent as they are, by title.
        shapes: the structs that describe the body, if `kind` is a plain object.
    """

    kind: type[Any]
    examples: Mapping[str, Any]
    shapes: tuple[type[msgspec.Struct], ...] = ()


@dataclass(frozen=True)
class About:
    """What is declared of a route besides its handler.

    Attributes:
        path: its template, such as "/models/{name}/chat".
        errors: the shape of its errors.
        parameters: examples of path parameters, by name.
        streams: the media type of its stream; empty if it has none.
    """

    path: str
    errors: ErrorShape = NATIVE
    body: Body | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    streams: str = ""


def route(
    method: Method,
    path: str,
    *,
    tag: str,
    errors: ErrorShape = NATIVE,
    body: Body | None = None,
    parameters: Mapping[str, Any] | None = None,
    streams: str | bool = False,
    media_type: str | None = None,
    guards: Sequence[Guard] = (),
) -> Callable[[Callable[..., Any]], HTTPRouteHandler]:
    """A decorator that makes a function a route. Its docstring is the documentation of the route.

    Args:
        path: as Litestar has it, such as "/models/{name:str}/chat".
        tag: the heading under which the route is documented; `docs/openapi.py` describes those there are.
        body: left out if the route takes none; the function's argument `data` is of its kind.
        parameters: an example of each path parameter.
        streams: whether it can answer with a stream: server-sent events, or of the media type that is given.
        media_type: of the answer; JSON by default.
        guards: Litestar's, called before the body is read.
    """
    stream = "text/event-stream" if streams is True else streams or ""
    declared = About(re.sub(r":\w+}", "}", path), errors, body, parameters or {}, stream)
    more: dict[str, Any] = {"dto": json_body(body.kind), "return_dto": None} if body else {}
    return _DECORATORS[method](
        path,
        status_code=200,
        tags=[tag],
        media_type=media_type,
        guards=list(guards),
        opt={_KEY: declared},
        **more,
    )


def about(handler: HTTPRouteHandler) -> About:
    """What was declared of a route. A plain Litestar handler has only its path."""
    declared: About | None = handler.opt.get(_KEY)
    return declared or About(re.sub(r":\w+}", "}", min(handler.paths)))
