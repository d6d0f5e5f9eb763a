"""Ollama's embeddings over real HTTP, with scripted engines."""

from __future__ import annotations

import msgspec

from ....support.server.fakes import fake_server


async def test_embeddings_in_both_forms():
    async with fake_server() as (client, engines):
        assert (await client.post("/api/embed", json={"model": "m", "input": "abc"})).status_code == 400
        engines["m"].info = msgspec.structs.replace(engines["m"].info, embeddings=True)
        body = {"model": "m:latest", "input": ["abc", "de"], "truncate": True, "options": {"num_ctx": 512}}
        answer = (await client.post("/api/embed", json=body)).json()
        one = (await client.post("/api/embed", json={"model": "m", "input": "abc"})).json()
        none = (await client.post("/api/embed", json={"model": "m", "input": []})).json()
        old = (await client.post("/api/embeddings", json={"model": "m", "prompt": "abc"})).json()
        empty = (await client.post("/api/embeddings", json={"model": "m"})).json()
        for wrong in ({"dimensions": 2}, {"input": ["a", ""]}, {"options": {"mirostat": 2}}):
            response = await client.post("/api/embed", json=body | wrong)
            assert (response.status_code, list(response.json())) == (400, ["error"]), wrong
    assert (answer["model"], answer["embeddings"]) == ("m:latest", [[3.0, 0.5], [2.0, 0.5]])
    assert answer["prompt_eval_count"] == 5
    assert 0 <= answer["load_duration"] < answer["total_duration"]
    assert one["embeddings"] == [[3.0, 0.5]]
    assert none["embeddings"] == []
    assert (old, empty) == ({"embedding": [3.0, 0.5]}, {"embedding": []})


async def test_a_text_that_is_too_long_is_cut_unless_that_is_not_wanted():
    async with fake_server() as (client, engines):
        await client.post("/models/m/load")
        info = engines["m"].info
        engines["m"].info = msgspec.structs.replace(info, embeddings=True, n_ctx=20)
        body = {"model": "m", "input": ["abc", "x" * 30]}
        for allowed in (body, {**body, "truncate": True}):
            vectors = (await client.post("/api/embed", json=allowed)).json()["embeddings"]
            assert vectors == [[3.0, 0.5], [12.0, 0.5]]
        refused = await client.post("/api/embed", json={**body, "truncate": False})
        assert (refused.status_code, "too long" in refused.json()["error"]) == (400, True)
        engines["m"].info = msgspec.structs.replace(info, embeddings=True, n_ctx=4)  # holds no text
        assert (await client.post("/api/embed", json=body)).status_code == 400
