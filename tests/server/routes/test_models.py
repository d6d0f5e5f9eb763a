"""Loading and unloading over real HTTP, with scripted engines."""

from __future__ import annotations

from ...support.fakes import fake_server


async def test_loading_and_unloading_twice_is_no_error():
    async with fake_server() as (client, engines):
        first = (await client.post("/models/m/load")).json()
        again = (await client.post("/models/m/load", json={"pin": True, "keep_alive": "5m"})).json()
        assert (first["already_loaded"], again["already_loaded"]) == (False, True)
        assert (first["memory_mb"], first["load_time_s"], first["state"]) == (100.0, 0.25, "ready")
        (model,) = (await client.get("/models")).json()["models"]
        assert model["pinned"]
        (available,) = (await client.get("/models/available")).json()["models"]
        assert (available["name"], available["loaded"], available["size_mb"]) == ("m", True, 100.0)
        first, again = [(await client.post("/models/m/unload")).json() for _ in range(2)]
        assert (first["was_loaded"], again["was_loaded"]) == (True, False)
        assert engines["m"].closed
        assert (await client.get("/models")).json()["models"] == []
        assert (await client.post("/models/x/load")).status_code == 404
        assert (await client.post("/models/x/unload")).status_code == 404


async def test_what_cannot_fit_is_507_with_numbers():
    async with fake_server(sizes={"m": 1.0, "huge": 50_000.0}) as (client, _):
        response = await client.post("/models/huge/load")
    assert response.status_code == 507
    assert "55150 MB" in response.json()["detail"]
