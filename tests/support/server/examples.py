"""Sends every example of a server's OpenAPI document, as a reader of the page would."""

from __future__ import annotations

import re
from typing import Any

import httpx

NO_EMBEDDINGS = dict.fromkeys(("/v1/embeddings", "/api/embed", "/api/embeddings"), 400)
"""What a model that generates answers there."""
CHANGES_FILES = {f"/api/{what}": 400 for what in ("push", "create", "copy", "delete", "blobs/{digest}")}
"""The routes of Ollama's API that are refused."""
NOT_KEPT = {f"/v1/responses/{{response_id}}{rest}": 404 for rest in ("", "/cancel", "/input_items")}
"""What a response of another time gets."""


async def run_examples(client: httpx.AsyncClient, model: str) -> dict[str, int]:
    """The paths with an example that was not answered with 200, and its status. Models stay loaded until the end."""
    document: Any = (await client.get("/openapi.json")).json()
    paths = document["paths"]
    last = ["/models/{name}/sessions/{session_id}", "/models/{name}/unload"]
    refused = {}
    for path in [*(path for path in paths if path not in last), *last]:
        for method, operation in paths[path].items():
            examples = {
                parameter["name"]: parameter["example"]
                for parameter in operation.get("parameters", ())
                if "example" in parameter
            }
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for example in body.get("examples", {"": {}}).values():
                assert example.get("value", {}).get("model", model) == model
                response = await client.request(method, path.format(**examples), json=example.get("value"))
                if response.status_code != 200:
                    refused[path] = response.status_code
                elif response.headers["content-type"].startswith("text/event-stream"):
                    assert not re.search('"error":[^n]', response.text)  # null in a response
    return refused
