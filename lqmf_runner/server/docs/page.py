"""Renders /docs from the OpenAPI document, and serves its style and script."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
import msgspec
from litestar import Request, Response, get
from litestar.types import ControllerRouterHandler
from markupsafe import Markup

from ..pool.pool import ModelPool
from ..route import MODEL
from ..state import state_of
from .fields import Field, fields_of
from .openapi import OpenAPIDocument

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    parameters: list[dict[str, Any]]
    examples: dict[str, str]
    body: tuple[Field, ...]
    answer: tuple[Field, ...]
    streams: bool


def docs_routes(document: OpenAPIDocument) -> list[ControllerRouterHandler]:
    """GET /docs, its style and its script. They are not part of the API, so the document does not list them."""

    @get("/docs", include_in_schema=False)
    async def docs(request: Request[Any, Any, Any]) -> Response[str]:
        """The documentation."""
        models = await _usable_models(state_of(request).pool)
        described = msgspec.json.decode(document.document(request.app, models[0] if models else MODEL))
        headers = {"content-security-policy": _POLICY}
        return Response(_render(described, models), media_type="text/html", headers=headers)

    @get("/docs/page.css", include_in_schema=False, sync_to_thread=False)
    def style() -> Response[bytes]:
        """Its style."""
        return _asset("page.css", "text/css")

    @get("/docs/page.js", include_in_schema=False, sync_to_thread=False)
    def script() -> Response[bytes]:
        """Its script."""
        return _asset("page.js", "text/javascript")

    return [docs, style, script]


def _asset(name: str, media_type: str) -> Response[bytes]:
    content = files(__package__).joinpath("assets", name).read_bytes()
    return Response(content, media_type=f"{media_type}; charset=utf-8")


async def _usable_models(pool: ModelPool) -> list[str]:
    """Names for the examples. Loaded models come first, because they answer at once."""
    loaded = [model.name for model in pool.models if model.engine]
    others = [entry.name for entry in await pool.catalog.entries() if not entry.problem]
    return list(dict.fromkeys([*loaded, *others]))


def _render(document: dict[str, Any], models: list[str]) -> str:
    groups: dict[str, list[Operation]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            groups[described["tags"][0]].append(_operation(method, path, described, document))
    return _ENVIRONMENT.get_template("page.html.j2").render(
        info=document["info"], tags=document["tags"], groups=groups, models=models
    )


def _operation(method: str, path: str, described: dict[str, Any], document: dict[str, Any]) -> Operation:
    components = document["components"]["schemas"]
    body = described.get("requestBody", {}).get("content", {}).get("application/json", {})
    answers = described["responses"]["200"].get("content", {})
    answer = answers.get("application/json", {}).get("schema", {})
    return Operation(
        id=described["operationId"],
        method=method.upper(),
        path=path,
        summary=described["summary"],
        description=described["description"],
        parameters=described.get("parameters", []),
        examples={title: _pretty(example["value"]) for title, example in body.get("examples", {}).items()},
        body=fields_of(body.get("schema", {}), components),
        answer=fields_of(answer, components),
        streams=len(answers) > 1,
    )


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _with_code(text: str) -> Markup:
    """Text between backticks becomes code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else part for index, part in enumerate(parts)
    )


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["with_code"] = _with_code
