"""GET /openapi.json: Litestar's description of the routes, with msgspec's exact schemas and our errors."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request
from litestar.openapi.plugins import JsonRenderPlugin

from . import embeddings, errors, openai_schemas, schemas, tokens

_REF = "#/components/schemas/{name}"
_STREAMING = ("/v1/chat/completions", "/v1/completions", "/models/{name}/chat")


class OpenAPIDocument(JsonRenderPlugin):
    """Described by msgspec, which checks the bodies: Litestar leaves out a minimum of 0 and the ranges of items."""

    def __init__(self, path: str) -> None:
        super().__init__(path=path)
        self._document: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The document, made once."""
        if self._document is None:
            self._document = msgspec.json.encode(_corrected(openapi_schema))
        return self._document


def _corrected(document: dict[str, Any]) -> dict[str, Any]:
    structs = [
        kind
        for module in (openai_schemas, schemas, tokens, embeddings, errors)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
    ]
    _, components = msgspec.json.schema_components(structs, ref_template=_REF)
    paths = {path: dict(methods) for path, methods in document["paths"].items()}
    for path, methods in paths.items():
        kind = "OpenAIError" if path.startswith(errors.OPENAI_PATHS) else "NativeError"
        content = {"application/json": {"schema": {"$ref": _REF.format(name=kind)}}}
        for method, operation in methods.items():
            responses = {code: answer for code, answer in operation["responses"].items() if code != "400"}
            if path in _STREAMING:
                ok = responses["200"]
                events = {"text/event-stream": {"schema": {"type": "string"}}}
                responses["200"] = ok | {"content": ok["content"] | events}
            responses["default"] = {"description": "An error", "content": content}
            methods[method] = operation | {"responses": responses}
    schemas_of_all = document["components"]["schemas"] | components
    return document | {"paths": paths, "components": document["components"] | {"schemas": schemas_of_all}}
