"""GET /openapi.json: Litestar's description of the routes, with msgspec's exact schemas, our errors and examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_args, get_type_hints

import msgspec
from litestar import Litestar, Request
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.plugins import JsonRenderPlugin

from ..errors import ERROR_BODIES
from ..route import MODEL, About, about
from ..state import state_of

_REF = "#/components/schemas/{name}"
_TAGS = {
    "OpenAI": "As OpenAI's clients expect them.",
    "Ollama": "As Ollama's clients expect them, at this server's address without a path.",
    "Chat": "The native chat, with conversations that the server keeps.",
    "Decisions": "Typed questions, answered with a probability for every option; nothing is generated.",
    "Models": "What can be used, and what is loaded.",
    "Status": "How the server is.",
}
_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


class OpenAPIDocument(JsonRenderPlugin):
    """The document. Schemas are msgspec's, since Litestar's lack a minimum of 0 and the ranges of items."""

    def __init__(self, routes: Sequence[HTTPRouteHandler]) -> None:
        super().__init__(path="/")
        self._routes = routes
        self._document: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The document, with a loaded model in its examples if there is one."""
        loaded = [model.name for model in state_of(request).pool.models]
        return self.document(request.app, loaded[0] if loaded else MODEL)

    def document(self, app: Litestar, model: str) -> bytes:
        """The document with this model in its examples. Everything else is built once."""
        if self._document is None:
            self._document = msgspec.json.encode(_corrected(app.openapi_schema.to_schema(), self._routes))
        return self._document.replace(msgspec.json.encode(MODEL), msgspec.json.encode(model))


def _corrected(document: dict[str, Any], routes: Sequence[HTTPRouteHandler]) -> dict[str, Any]:
    declared = {
        (about(handler).path, method.lower()): about(handler)
        for handler in routes
        for method in handler.http_methods
    }
    paths = {
        path: {method: _operation(operation, declared[path, method]) for method, operation in methods.items()}
        for path, methods in document["paths"].items()
    }
    shared = document["components"] | {
        "schemas": document["components"]["schemas"] | _components(routes),
        "securitySchemes": _KEYS,
    }
    return document | {
        "paths": paths,
        "components": shared,
        "security": [{}, *({name: []} for name in _KEYS)],
        "tags": [{"name": name, "description": text} for name, text in _tags(routes).items()],
    }


def _tags(routes: Iterable[HTTPRouteHandler]) -> dict[str, str]:
    """The headings: those described here, and others that routes use."""
    return _TAGS | {tag: "" for handler in routes for tag in handler.tags or () if tag not in _TAGS}


def _components(routes: Iterable[HTTPRouteHandler]) -> dict[str, Any]:
    """The schemas of all structs that the routes take and give."""
    structs: list[type[msgspec.Struct]] = list(ERROR_BODIES.values())
    for handler in routes:
        structs += _structs(get_type_hints(handler.fn).get("return"))
        if body := about(handler).body:
            structs += body.shapes or _structs(body.kind)
    _, components = msgspec.json.schema_components(list(dict.fromkeys(structs)), ref_template=_REF)
    for shape in {shape for handler in routes if (body := about(handler).body) for shape in body.shapes}:
        components[shape.__name__]["required"] = ["model", *components[shape.__name__]["required"]]
    return components


def _structs(annotation: Any) -> Iterator[type[msgspec.Struct]]:
    """The structs that an annotation names, such as `ChatCompletion` in `Answer[ChatCompletion]`."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        yield annotation
    for inner in get_args(annotation):
        yield from _structs(inner)


def _operation(operation: dict[str, Any], route: About) -> dict[str, Any]:
    kind = ERROR_BODIES[route.errors].__name__
    error = {"application/json": {"schema": {"$ref": _REF.format(name=kind)}}}
    responses = {code: answer for code, answer in operation["responses"].items() if code != "400"}
    if route.streams:
        ok = responses["200"]
        events: dict[str, Any] = {route.streams: {}}
        responses["200"] = ok | {"content": ok["content"] | events}
    responses["default"] = {"description": "An error", "content": error}
    summary, _, description = operation.get("description", "").partition("\n")
    found = operation | {"summary": summary, "description": description.strip(), "responses": responses}
    if "parameters" in operation:
        found["parameters"] = [_parameter(parameter, route) for parameter in operation["parameters"]]
    if "requestBody" in operation:
        found["requestBody"] = _body(operation["requestBody"], route)
    return found


def _parameter(parameter: dict[str, Any], route: About) -> dict[str, Any]:
    example = route.parameters.get(parameter["name"])
    return parameter if example is None else parameter | {"example": example}


def _body(described: dict[str, Any], route: About) -> dict[str, Any]:
    """With examples; a body that may be null may also be left out."""
    content = dict(described["content"]["application/json"])
    options = content["schema"].get("oneOf", [])
    if route.body is not None:
        content["examples"] = {title: {"value": value} for title, value in route.body.examples.items()}
        if shapes := route.body.shapes:
            content["schema"] = {"anyOf": [{"$ref": _REF.format(name=kind.__name__)} for kind in shapes]}
    return {"required": {"type": "null"} not in options, "content": {"application/json": content}}
