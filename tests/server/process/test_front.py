"""A server in front of another one: the same API, whatever runs behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ...support.server.processes import MODEL, Program, Server


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """The one in front, which has no model of its own, and the one behind it."""
    program = Program(tmp_path_factory.mktemp("front"))
    with program.serve("backend.n_ctx=256", LQMF_API_KEYS="inner") as behind:
        endpoint = [f"backend.base_url={behind.url}/v1", f"backend.remote_model={MODEL}"]
        with program.serve(*endpoint, model=["model=openai"], OPENAI_API_KEY="inner") as front:
            yield front, behind


def test_answers_are_those_of_the_endpoint(servers: tuple[Server, Server]):
    front, behind = servers
    behind.client.headers["x-api-key"] = "inner"
    assert "openai" in [model["id"] for model in front.client.get("/v1/models").json()["data"]]
    answer = front.chat("openai", seed=3)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "openai"
    assert answer.json()["choices"] == behind.chat(seed=3).json()["choices"]
    assert answer.json()["usage"]["completion_tokens"] == 4
    with front.stream("openai") as stream:
        lines = [line for line in stream.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert '"role":"assistant"' in lines[0]
    assert '"finish_reason":"length"' in "".join(lines)
    native = front.client.post("/models/openai/chat", json={"message": "hi", "max_tokens": 4, "seed": 3})
    assert native.json()["tokens_generated"] == 4


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_endpoint_refuses_is_refused(servers: tuple[Server, Server], stream: bool):
    front, _ = servers
    refused = front.chat("openai", messages=[{"role": "user", "content": "x" * 400}], stream=stream)
    assert refused.status_code == 400
    assert "context size of 256" in refused.json()["error"]["message"]


def test_the_endpoint_s_key_and_address_stay_with_the_server(servers: tuple[Server, Server]):
    front, behind = servers
    texts = [
        front.client.get(path).text for path in ("/models", "/models/available", "/stats", "/openapi.json")
    ]
    assert not any("inner" in text or behind.url in text for text in texts)
