from __future__ import annotations

from ...support.server.fakes import fake_server


async def test_tokenize_and_detokenize():
    async with fake_server() as (client, _):
        answer = await client.post("/tokenize", json={"model": "m", "prompt": "ab"})
        assert answer.json() == {"tokens": [97, 98], "count": 2, "max_model_len": 2048}
        answer = await client.post("/tokenize", json={"model": "m", "content": "a", "add_special": True})
        assert answer.json()["tokens"] == [1, 97]
        answer = await client.post("/detokenize", json={"model": "m", "tokens": [97, 98]})
        assert answer.json()["content"] == "ab"
