"""Embeddings over real HTTP, with scripted engines."""

from __future__ import annotations

import base64
import struct

import msgspec

from ...support.server.fakes import fake_server


async def test_embeddings_of_a_model_that_gives_them_and_of_one_that_does_not():
    async with fake_server() as (client, engines):
        refused = await client.post("/v1/embeddings", json={"model": "m", "input": "abc"})
        assert refused.status_code == 400
        engines["m"].info = msgspec.structs.replace(engines["m"].info, embeddings=True)
        body = {"model": "m", "input": ["abc", "de"]}
        answer = (await client.post("/v1/embeddings", json=body)).json()
        packed = (await client.post("/v1/embeddings", json=body | {"encoding_format": "base64"})).json()
        ids = (await client.post("/v1/embeddings", json=body | {"input": [5, 6, 7, 8]})).json()
        lists = (await client.post("/v1/embeddings", json=body | {"input": [[5, 6, 7, 8], [9]]})).json()
        for wrong in ({"dimensions": 2}, {"input": ["a", 5]}, {"input": []}, {"input": [[]]}, {"input": ""}):
            response = await client.post("/v1/embeddings", json=body | wrong)
            assert response.status_code == 400, wrong
    assert [item["embedding"] for item in ids["data"]] == [[4.0, 0.5]]
    assert [item["embedding"][0] for item in lists["data"]] == [4.0, 1.0]
    assert [item["embedding"] for item in answer["data"]] == [[3.0, 0.5], [2.0, 0.5]]
    assert answer["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    assert struct.unpack("<2f", base64.b64decode(packed["data"][1]["embedding"])) == (2.0, 0.5)
