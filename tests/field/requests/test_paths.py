"""Paths that are almost right: another beginning, or a letter less (litellm #8350, vllm #11171)."""

from __future__ import annotations

import pytest

from ...support.server.fakes import fake_server

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", CHAT), ("/v1/v1/chat/completions", CHAT), ("/api/v1/chat/completions", CHAT),
        ("/v1/chat/completion", CHAT), ("/v1/chat", CHAT), ("/completions", "/v1/completions"),
        ("/openai/v1/models", "/v1/models"), ("/v1/embedding", "/v1/embeddings"), ("/v1", None), ("/v1/", None),
        ("/v1/images/generations", None), ("/v1/" + "x" * 5000, None),
    ],
)  # fmt: skip
async def test_an_unknown_path_near_openai_s_has_its_errors_and_names_the_route(
    path: str, meant: str | None
) -> None:
    async with fake_server() as (client, _):
        for reply in (await client.post(path, json={}), await client.get(path)):
            assert reply.status_code == 404
            assert set(reply.json()) == {"error"}
            assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
            assert meant is None or meant in reply.json()["error"]["message"]
