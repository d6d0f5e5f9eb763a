"""Loading and unloading over real HTTP, with scripted engines."""

from __future__ import annotations

from ...support.server.fakes import fake_server


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


async def test_a_split_of_which_a_part_does_not_fit_leaves_all_as_it_was():
    split = {"name": {"m": 1.0, "n": 1.0, "huge": 1.0}}
    sizes = {"m": 1.0, "n": 1.0, "huge": 50_000.0}
    async with fake_server(sizes=sizes, shares=split) as (client, engines):
        await client.post("/models/m/load", json={"pin": False})
        response = await client.post("/models/name/load", json={"pin": True})
        assert response.status_code == 507
        (left,) = (await client.get("/models")).json()["models"]
        assert (left["name"], left["state"], left["pinned"]) == ("m", "ready", False)
        assert engines["n"].closed
        assert not engines["m"].closed


async def test_a_model_is_scaled_and_its_replicas_are_shown_everywhere():
    async with fake_server() as (client, _):
        answer = (await client.post("/models/m/scale", json={"replicas": 3})).json()
        assert [replica["state"] for replica in answer["replicas"]] == ["ready"] * 3
        assert answer["memory_mb"] == 300.0
        for _ in range(3):
            chat = {"message": "Hello", "max_tokens": 8}
            assert (await client.post("/models/m/chat", json=chat)).json()["response"] == "Hello you"
        (model,) = (await client.get("/models")).json()["models"]
        assert [replica["requests"] for replica in model["replicas"]] == [1, 1, 1]
        stats = (await client.get("/stats")).json()["models"]["m"]
        assert [replica["number"] for replica in stats["replicas"]] == [0, 1, 2]
        metrics = (await client.get("/metrics")).text
        assert 'lqmf_replica_requests_total{model="m",place="this machine",replica="1"} 1.0' in metrics
        assert 'lqmf_replica_ready{model="m",place="this machine",replica="2"} 1.0' in metrics


async def test_a_wrong_number_of_replicas_is_refused():
    async with fake_server() as (client, _):
        for body in ({}, {"replicas": 0}, {"replicas": 1.5}, {"replicas": "two"}):
            assert (await client.post("/models/m/scale", json=body)).status_code == 400
        assert (await client.post("/models/x/scale", json={"replicas": 2})).status_code == 404
        response = await client.post("/models/m/scale", json={"replicas": 900})
        assert response.status_code == 507


async def test_every_api_says_which_name_was_meant():
    turns = [{"role": "user", "content": "hi"}]
    async with fake_server(sizes={"smollm2_gguf": 1.0}) as (client, _):
        for path, body in {
            "/v1/chat/completions": {"model": "smolm2_gguf", "messages": turns},
            "/v1/responses": {"model": "smolm2_gguf", "input": "hi"},
            "/v1/models/smolm2_gguf": None,
            "/models/smolm2_gguf/chat": {"message": "hi"},
            "/models/smolm2_gguf/load": {},
            "/api/chat": {"model": "smolm2_gguf:latest", "messages": turns},
            "/api/show": {"model": "smolm2_gguf"},
        }.items():
            response = await (client.get(path) if body is None else client.post(path, json=body))
            assert response.status_code == 404, path
            assert "did you mean smollm2_gguf?" in response.text, path
