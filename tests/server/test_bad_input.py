"""Whatever a client sends that is wrong is answered with a 4xx in the route's shape, and the server goes on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from ..support.server.fakes import fake_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAT, COMPLETE, NATIVE = "/v1/chat/completions", "/v1/completions", "/models/m/chat"
USER = [{"role": "user", "content": "hi"}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with fake_server(max_body_mb=0.1) as (client, _):
        yield client


async def refused(client: httpx.AsyncClient, path: str, body: Any, status: int = 400) -> Any:
    """The error that the server answers with, after which it still answers others."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = await client.post(path, content=content)
    assert response.status_code == status, response.text
    error = response.json()
    if path.startswith("/v1/"):
        assert set(error) == {"error"}
        assert set(error["error"]) == {"message", "type", "param", "code"}
        assert error["error"]["message"]
    else:
        assert set(error) == {"error", "detail", "hint"}
    assert (await client.get("/health")).status_code == 200
    return error


MESSAGES = {
    "null": None,
    "a string": "hi",
    "empty": [],
    "numbers": [123],
    "empty objects": [{}],
    "strings": ["hi"],
    "no role": [{"content": "hi"}],
    "unknown role": [{"role": "robot", "content": "hi"}],
    "role of a wrong type": [{"role": 1, "content": "hi"}],
    "no content": [{"role": "user"}],
    "content null": [{"role": "user", "content": None}],
    "content of a wrong type": [{"role": "user", "content": 5}],
    "content an object": [{"role": "user", "content": {"text": "hi"}}],
    "part without text": [{"role": "user", "content": [{"type": "text"}]}],
    "image part": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
    "tool without id": [{"role": "tool", "content": "42"}],
    "calls of a user": [
        {"role": "user", "content": "x", "tool_calls": [{"id": "1", "function": {"name": "f"}}]}
    ],
}


@pytest.mark.parametrize("messages", MESSAGES.values(), ids=MESSAGES.keys())
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_messages(client: httpx.AsyncClient, messages: Any, stream: bool):
    error = await refused(client, CHAT, {"model": "m", "messages": messages, "stream": stream})
    assert error["error"]["param"].startswith("messages")


FIELDS = {
    "temperature": [-0.1, 2.1, "1", [], 1e308],
    "top_p": [-0.1, 1.1, "x"],
    "n": [0, -1, 129, 1.5, "2"],
    "max_tokens": [0, -2, 2**31, 10**30, 1.5, "5"],
    "max_completion_tokens": [0, -2, 10**30],
    "presence_penalty": [-2.1, 2.1],
    "frequency_penalty": [-2.1, 2.1],
    "repetition_penalty": [0, -1, 1000],
    "logit_bias": [{"1": 101}, {"1": -101}, {"x": 1}, [1], {"1": "x"}],
    "top_logprobs": [-1, 21, 5],  # 5 without logprobs
    "logprobs": [3, "yes"],
    "seed": [2**63, -(2**63) - 1, 1.5, "x"],
    "stop": [["a"] * 5000, [1], 5, "x" * 5000],
    "min_p": [-1, 2],
    "top_k": [-2, 1.5, 2**40],
    "stream": ["yes", 1],
    "stream_options": [5, "x"],
    "response_format": [{}, {"type": "xml"}, {"type": "json_schema"}, {"type": "json_schema", "json_schema": {}}, 1],
    "structured_outputs": [{"regex": "a", "choice": ["b"]}, {"choice": []}, {"regex": 5}, 5],
    "tools": [[{}], [{"type": "function"}], 5, [{"type": "function", "function": {"name": "a b"}}]],
    "tool_choice": ["required", "always", {"type": "function"}],
    "chat_template_kwargs": [5, [1], "x"],
    "keep_alive": ["soon", [], {}],
    "model": [None, 5, []],
}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), [(field, v) for field, values in FIELDS.items() for v in values])
async def test_chat_fields(client: httpx.AsyncClient, field: str, value: Any):
    body = {"model": "m", "messages": USER, field: value}
    error = await refused(client, CHAT, body)
    assert (error["error"]["param"] or "").startswith(field)


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": None}, {"prompt": []}, {"prompt": 5}, {"prompt": ["a", 1]}, {"prompt": [[1], "a"]},
        {"prompt": [[1.5]]}, {"prompt": {"a": 1}}, {"prompt": "x", "logprobs": 6}, {"prompt": "x", "logprobs": True},
        {"prompt": "x", "best_of": 3}, {"prompt": "x", "suffix": "y"}, {"prompt": "x", "max_tokens": 0},
        {"prompt": "x", "max_tokens": -2}, {"prompt": "x", "echo": "yes"}, {"prompt": ["x"] * 128, "n": 128}, {},
    ],
)  # fmt: skip
async def test_completion_fields(client: httpx.AsyncClient, body: Any):
    await refused(client, COMPLETE, {"model": "m"} | body)


@pytest.mark.parametrize(
    "body",
    [
        {}, {"message": None}, {"message": 5}, {"message": "a", "messages": USER}, {"messages": []},
        {"messages": [{"role": "tool", "content": "x"}]}, {"message": "a", "temperature": 3},
        {"message": "a", "max_tokens": 0}, {"message": "a", "session_id": ""},
        {"message": "a", "session_id": "x" * 129},
        {"message": "a", "session_id": 5}, {"message": "a", "top_p": 2}, {"message": "a", "stop": ["a"] * 5000},
        {"message": "a", "repeat_penalty": 0}, {"messages": [{"role": "system", "content": "x"}], "system": "y"},
    ],
)  # fmt: skip
async def test_native_fields(client: httpx.AsyncClient, body: Any):
    await refused(client, NATIVE, body)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b'"text"', b"5", b"{}x", b"\xff\xfe", b'{"model": "m", "messages": NaN}',
        b'{"model": "m", "temperature": NaN}', b'{"model": "m", "temperature": Infinity}',
        b'{"model": "m", "temperature": 1e999}', b'{"model": "\\ud800"}', b'{"model": "\\udc00\\ud800"}',
        b'{"model": "m", "x": "\xff"}', b"[" * 50_000, b'{"a":' * 10_000, b"model=m",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [CHAT, NATIVE])
async def test_bodies_that_are_no_json_object(client: httpx.AsyncClient, path: str, body: bytes):
    response = await client.post(path, content=body)
    assert response.status_code == 400, response.text
    assert "error" in response.json()


async def test_a_body_that_is_too_large(client: httpx.AsyncClient):
    body = {"model": "m", "messages": [{"role": "user", "content": "x" * 200_000}]}
    error = await refused(client, CHAT, body, 413)
    assert error["error"]["code"] == "request_too_large"


NAMES = [
    "../m", "../../etc/passwd", "/etc/passwd", "m/../m", "..%2f..%2fetc", "%2e%2e", "m\0", "m%00", "", " m", "M",
    ".", "..", "~", "m" * 10_000, "quantized-models/m", "\\\\host\\m", "file:///etc/passwd", "\u202em",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
async def test_names_are_never_paths(client: httpx.AsyncClient, name: str):
    error = await refused(client, CHAT, {"model": name, "messages": USER}, 404)
    assert error["error"]["code"] == "model_not_found"
    assert "etc" not in error["error"]["message"] or "etc" in name


@pytest.mark.parametrize(
    "path",
    [
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc",
        "m%00",
        "..",
        "%2fetc%2fpasswd",
        "nope",
        "%ff",
        "m%0a",
        "%",
    ],
)
@pytest.mark.parametrize("end", ["load", "unload", "chat"])
async def test_names_in_paths_are_never_paths(client: httpx.AsyncClient, path: str, end: str):
    response = await client.post(f"/models/{path}/{end}", json={"message": "hi"} if end == "chat" else None)
    assert response.status_code in (404, 405), response.text
    assert set(response.json()) == {"error", "detail", "hint"}


async def test_unknown_fields_are_accepted(client: httpx.AsyncClient):
    more = {
        "store": True,
        "metadata": {"a": "b"},
        "service_tier": "auto",
        "reasoning_effort": "low",
        "user": "u",
    }
    response = await client.post(CHAT, json={"model": "m", "messages": USER} | more)
    assert response.status_code == 200


async def test_null_means_the_default(client: httpx.AsyncClient):
    names = [name for name in FIELDS if name != "model"]
    response = await client.post(CHAT, json={"model": "m", "messages": USER} | dict.fromkeys(names))
    assert response.status_code == 200, response.text
