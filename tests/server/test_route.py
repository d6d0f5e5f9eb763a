"""A route is a function with what is to be known of it: added to the others, it is served and documented."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lqmf_runner.errors import ConflictError
from lqmf_runner.server.route import NATIVE, OPENAI, Body, ErrorShape, route
from lqmf_runner.server.routes import ROUTES

from ..support.server.fakes import fake_server
from ..support.server.guarded import guarded_server


class Shout(msgspec.Struct):
    """A text."""

    text: str


class Shouted(msgspec.Struct):
    """The text in capitals."""

    loud: str


def shouting(path: str, errors: ErrorShape) -> Any:
    @route("POST", path, tag="Voices", errors=errors, body=Body(Shout, {"A word": {"text": "hello"}}))
    async def shout(data: Shout) -> Shouted:
        """The text in capitals."""
        if data.text == "taken":
            raise ConflictError("somebody shouts already")
        return Shouted(data.text.upper())

    return shout


@pytest.mark.parametrize(
    ("path", "errors", "keys", "schema"),
    [
        ("/v1/shout", OPENAI, {"error"}, "OpenAIError"),
        ("/v1/shout", NATIVE, {"error", "detail", "hint"}, "NativeError"),
        ("/models/shout", OPENAI, {"error"}, "OpenAIError"),
    ],
)
async def test_a_route_is_served_and_documented(path: str, errors: ErrorShape, keys: set[str], schema: str):
    async with fake_server(routes=(*ROUTES, shouting(path, errors))) as (client, _):
        assert (await client.post(path, json={"text": "hello"})).json() == {"loud": "HELLO"}
        for body, status in (({"text": "taken"}, 409), ({"text": 5}, 400)):
            failed = await client.post(path, json=body)
            assert (failed.status_code, set(failed.json())) == (status, keys)
        document: Any = (await client.get("/openapi.json")).json()
        page = (await client.get("/docs")).text
    operation = document["paths"][path]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    assert content["examples"] == {"A word": {"value": {"text": "hello"}}}
    assert operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"].endswith(schema)
    assert {"Shout", "Shouted"} <= set(document["components"]["schemas"])
    assert "Voices" in [tag["name"] for tag in document["tags"]]
    assert f'data-path="{path}"' in page
    assert "A word" in page


async def test_what_guards_refuse_has_the_shape_of_the_route():
    shout = shouting("/shout", OPENAI)
    async with guarded_server(keys="sesame", routes=(*ROUTES, shout)) as server:
        for path, keys in (("/shout", {"error"}), ("/models", {"error", "detail", "hint"})):
            refused = await server.client.post(path)
            assert (refused.status_code, set(refused.json())) == (401, keys)
