"""Sends every example of a server's OpenAPI document, as a reader of the page would."""

from __future__ import annotations

from typing import Any

import httpx


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
                    assert '"error"' not in response.text
    return refused
