"""The status of a server, its models as OpenAI lists them, and paths that are no route."""

from __future__ import annotations

from typing import Any

from ...support.server.fakes import fake_server, hello
from ...support.server.guarded import guarded_server


async def test_status_and_openai_models():
    async with fake_server() as (client, _):
        await client.post("/models/m/load")
        status = (await client.get("/")).json()
        assert (status["status"], status["loaded_models"]) == ("ok", ["m"])
        assert (await client.get("/ready")).json() == {"status": "ready", "models": {"m": "ready"}}
        listing: Any = (await client.get("/v1/models")).json()
        assert [model["id"] for model in listing["data"]] == ["m"]
        assert (await client.get("/v1/models/m")).json() == listing["data"][0]
        unknown = await client.get("/v1/models/x")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_probe_without_the_key_learns_no_names():
    with_key = {"Authorization": "Bearer sesame"}
    async with guarded_server(keys="sesame") as server:
        await server.client.post("/models/m/load", headers=with_key)
        assert (await server.client.get("/ready")).json() == {"status": "ready", "models": {}}
        assert (await server.client.get("/ready", headers=with_key)).json()["models"] == {"m": "ready"}
        server.state.lifecycle.waiting_for = {"m"}
        refused = await server.client.get("/ready")
        assert refused.status_code == 503
        assert '"m"' not in refused.text
        assert "loading m" not in refused.text
        assert "loading m" in (await server.client.get("/ready", headers=with_key)).text


async def test_health_and_unknown_routes():
    async with fake_server(hello) as (client, _):
        assert (await client.get("/nothing")).json()["error"] == "not_found"
        assert (await client.get("/v1/nothing")).json()["error"]["code"] == "not_found"
        assert (await client.get("/openapi.json")).json()["openapi"].startswith("3.")
        assert (await client.put("/health")).status_code == 405
