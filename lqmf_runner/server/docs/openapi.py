"""GET /openapi.json: Litestar's description of the routes, with msgspec's exact schemas, our errors and examples."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Litestar, Request
from litestar.openapi.plugins import JsonRenderPlugin

from ...decisions.shapes import OpenAIDecisionsRequest, SGLangDecisionsRequest, SystemOneRequest
from ...openai_api import errors as openai_errors
from ...openai_api import schemas as openai_schemas
from ..answers import errors
from ..routes import embeddings, schemas, tokens
from ..services import services_of
from .examples import BODIES, MODEL, PARAMETERS

_REF = "#/components/schemas/{name}"
_STREAMING = ("/v1/chat/completions", "/v1/completions", "/models/{name}/chat")
# Bodies that their routes take as plain objects, as their shape shows only inside.
_SHAPES: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "/v1/systemone": (SystemOneRequest,),
    "/v1/decisions": (OpenAIDecisionsRequest, SGLangDecisionsRequest),
}
_TAGS = {
    "OpenAI": "As OpenAI's clients expect them.",
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
    """Described by msgspec, which checks the bodies: Litestar leaves out a minimum of 0 and the ranges of items."""

    def __init__(self, path: str) -> None:
        super().__init__(path=path)
        self._document: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The document, with a loaded model in its examples where there is one."""
        loaded = [model.name for model in services_of(request).pool.models]
        return self.document(request.app, loaded[0] if loaded else MODEL)

    def document(self, app: Litestar, model: str) -> bytes:
        """The document with this model in its examples. All else is always the same, and made once."""
        if self._document is None:
            self._document = msgspec.json.encode(_corrected(app.openapi_schema.to_schema()))
        return self._document.replace(msgspec.json.encode(MODEL), msgspec.json.encode(model))


def _corrected(document: dict[str, Any]) -> dict[str, Any]:
    structs = [
        kind
        for module in (openai_schemas, openai_errors, schemas, tokens, embeddings, errors)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
    ]
    structs += [kind for kinds in _SHAPES.values() for kind in kinds]
    _, components = msgspec.json.schema_components(structs, ref_template=_REF)
    for kinds in _SHAPES.values():
        for kind in kinds:
            components[kind.__name__]["required"] = ["model", *components[kind.__name__]["required"]]
    paths = {
        path: {method: _operation(path, operation) for method, operation in methods.items()}
        for path, methods in document["paths"].items()
    }
    shared = document["components"] | {
        "schemas": document["components"]["schemas"] | components,
        "securitySchemes": _KEYS,
    }
    return document | {
        "paths": paths,
        "components": shared,
        "security": [{}, *({name: []} for name in _KEYS)],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
    }


def _operation(path: str, operation: dict[str, Any]) -> dict[str, Any]:
    kind = "OpenAIError" if path.startswith(errors.OPENAI_PATHS) else "NativeError"
    error = {"application/json": {"schema": {"$ref": _REF.format(name=kind)}}}
    responses = {code: answer for code, answer in operation["responses"].items() if code != "400"}
    if path in _STREAMING:
        ok = responses["200"]
        events: dict[str, Any] = {"text/event-stream": {}}
        responses["200"] = ok | {"content": ok["content"] | events}
    responses["default"] = {"description": "An error", "content": error}
    summary, _, description = operation.get("description", "").partition("\n")
    found = operation | {"summary": summary, "description": description.strip(), "responses": responses}
    if "parameters" in operation:
        found["parameters"] = [_parameter(parameter) for parameter in operation["parameters"]]
    if "requestBody" in operation:
        found["requestBody"] = _body(path, operation["requestBody"])
    return found


def _parameter(parameter: dict[str, Any]) -> dict[str, Any]:
    name = parameter["name"]
    return parameter | ({"example": PARAMETERS[name]} if name in PARAMETERS else {})


def _body(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """With examples; a body that may be null may also be left out."""
    content = dict(body["content"]["application/json"])
    options = content["schema"].get("oneOf", [])
    if shapes := _SHAPES.get(path):
        content["schema"] = {"anyOf": [{"$ref": _REF.format(name=kind.__name__)} for kind in shapes]}
    content["examples"] = {title: {"value": value} for title, value in BODIES[path].items()}
    return {"required": {"type": "null"} not in options, "content": {"application/json": content}}
