"""The description of the API: what fuzzers and client generators start from."""

from __future__ import annotations

from typing import Any

import pytest

from lqmf_runner.server.route import about
from lqmf_runner.server.routes import ROUTES

from ...support.server.fakes import fake_server

REFUSED = {"/api/push", "/api/create", "/api/copy", "/api/blobs/{digest}"}  # whatever their body is


async def test_every_route_is_described_with_its_body_and_its_answer():
    async with fake_server() as (client, _):
        document: Any = (await client.get("/openapi.json")).json()
    paths = document["paths"]
    posts = {path for path, methods in paths.items() if "post" in methods}
    assert posts == {
        "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/systemone", "/v1/decisions",
        "/tokenize", "/detokenize", "/models/{name}/chat", "/models/{name}/load", "/models/{name}/unload",
        "/models/{name}/scale", "/models/{name}/promote", "/models/{name}/rollback", "/models/{name}/split",
        "/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show", "/api/pull",
        "/v1/responses", "/v1/responses/{response_id}/cancel", *REFUSED,
    }  # fmt: skip
    schemas = document["components"]["schemas"]
    without_body = {f"/models/{{name}}/{verb}" for verb in ("unload", "rollback")}
    for path in posts - without_body - {"/v1/responses/{response_id}/cancel", *REFUSED}:
        operation = paths[path]["post"]
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        assert body, path
        answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert answer, path
    (name,) = [n for n in schemas if n.endswith("ChatCompletionRequest")]
    request = schemas[name]
    assert sorted(request["required"]) == ["messages", "model"]
    temperature = [option for option in request["properties"]["temperature"]["anyOf"] if "maximum" in option]
    assert (temperature[0]["minimum"], temperature[0]["maximum"]) == (0, 2)
    bias = [option for option in request["properties"]["logit_bias"]["anyOf"] if option["type"] == "object"]
    assert bias[0]["additionalProperties"]["minimum"] == -100
    error = paths["/v1/completions"]["post"]["responses"]["default"]["content"]["application/json"]["schema"]
    assert error["$ref"].endswith("OpenAIError")
    reference = paths["/v1/chat/completions"]["post"]["responses"]["200"]["content"]["application/json"][
        "schema"
    ]
    assert reference["$ref"].endswith("ChatCompletion")
    lines = paths["/api/chat"]["post"]["responses"]
    assert set(lines["200"]["content"]) == {"application/json", "application/x-ndjson"}
    assert lines["default"]["content"]["application/json"]["schema"]["$ref"].endswith("OllamaError")
    assert "num_predict" in schemas["OllamaChatRequest"]["properties"]["options"]["properties"]


async def test_the_examples_match_the_schemas_of_their_bodies():
    jsonschema = pytest.importorskip("jsonschema")
    async with fake_server() as (client, _):
        document: Any = (await client.get("/openapi.json")).json()
    bodies = {about(handler).path: body for handler in ROUTES if (body := about(handler).body)}
    assert len(bodies) == 19
    for path, declared in bodies.items():
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        check = jsonschema.Draft202012Validator({**body, "components": document["components"]})
        for title, example in declared.examples.items():
            assert not list(check.iter_errors(example)), (path, title)
            if path in ("/v1/systemone", "/v1/decisions"):
                assert list(check.iter_errors({**example, "questions": 5})), title
                assert list(check.iter_errors({k: v for k, v in example.items() if k != "model"})), title
