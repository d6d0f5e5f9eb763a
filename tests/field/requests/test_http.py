"""Clients beside HTTP's main road: browsers' preflights, HEAD, compressed bodies, odd Hosts, encodings and paths.

The kinds are those of ollama #4388 and #12386, bifrost #1074, vllm #11171, litellm #8350, llama.cpp #4511 (requests
with credentials).
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from lqmf_runner.config import ServerConfig
from lqmf_runner.errors import UserInputError
from lqmf_runner.server.guards.cors import CorsPolicy

from ...support.server.guarded import Guarded, guarded_server, walk

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORIGINS = ["https://app.example.com", "app://obsidian.md"]
CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Guarded]:
    async with guarded_server(cors_origins=ORIGINS, max_body_mb=0.1) as server:
        yield server


async def raw(server: Guarded, request: bytes) -> bytes:
    """The answer to a request as it is on the wire."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    assert length
    answer = head + await reader.readexactly(int(length[1]))
    writer.close()
    return answer


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize(
    "asked", ["x-stainless-os", "authorization,content-type,x-stainless-arch", "content-type,accept,x-my-own"]
)
async def test_a_preflight_passes_on_every_route_with_every_header(
    server: Guarded, origin: str, asked: str
) -> None:
    for method, path in walk(server.app):
        wants = {
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": asked,
            "Access-Control-Request-Private-Network": "true",
        }
        reply = await server.client.options(path, headers=wants)
        assert reply.status_code == 204
        assert reply.headers["access-control-allow-origin"] == origin
        assert reply.headers["access-control-allow-headers"] == asked
        assert method in reply.headers["access-control-allow-methods"].split(", ")
        assert reply.headers["access-control-allow-private-network"] == "true"
        assert reply.headers["access-control-allow-credentials"] == "true"


async def test_pages_of_any_origin_get_no_credentials() -> None:
    named = dict(CorsPolicy(ORIGINS).headers(ORIGINS[0].encode()))
    any_origin = dict(CorsPolicy(["*", *ORIGINS]).headers(ORIGINS[0].encode()))
    assert any_origin[b"access-control-allow-origin"] == ORIGINS[0].encode()
    assert named.keys() - any_origin.keys() == {b"access-control-allow-credentials"}


async def test_an_origin_that_is_not_allowed_gets_no_allowance(server: Guarded) -> None:
    wants = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    reply = await server.client.options(CHAT, headers=wants)
    assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize("first", [True, False], ids=["origin first", "origin last"])
async def test_a_page_may_read_errors_before_the_routes(server: Guarded, first: bool) -> None:
    origin, large = b"Origin: app://obsidian.md\r\n", b"X-Large: " + b"a" * 100_000 + b"\r\n"
    head = origin + large if first else large + origin
    answer = await raw(server, b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 431")
    assert b"access-control-allow-origin: app://obsidian.md\r\n" in answer
    assert set(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]) == {"message", "type", "param", "code"}


async def test_a_page_may_read_errors_of_the_guards(server: Guarded) -> None:
    for path, body in ((CHAT, b"x" * 200_000), ("/nothing", b"")):
        reply = await server.client.post(path, content=body, headers={"Origin": ORIGINS[0]})
        assert reply.status_code in (413, 404)
        assert reply.headers["access-control-allow-origin"] == ORIGINS[0]


@pytest.mark.parametrize(
    ("setting", "sent"),
    [
        ("https://app.example.com/", "https://app.example.com"),
        ("https://app.example.com/tool/?a=b", "https://app.example.com"),
        ("HTTPS://App.Example.com:443", "https://app.example.com"),
        ("http://localhost:5173", "http://localhost:5173"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("tauri://localhost", "tauri://localhost"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("file://", "file://"),
        ("null", "null"),
        ("*", "https://anything.example"),
    ],
)
async def test_origins_are_matched_as_they_are_meant(setting: str, sent: str) -> None:
    assert CorsPolicy([setting]).allows(sent.encode())


@pytest.mark.parametrize(
    "setting",
    [
        "app.example.com", "https://*.example.com", "http://localhost:*", "localhost:3000", "https://", "", " ",
        "https://a b", "https://user@app.example.com", "//app.example.com", "https:app.example.com",
    ],
)  # fmt: skip
async def test_origins_that_no_page_can_have_are_refused(setting: str) -> None:
    with pytest.raises(UserInputError, match=r"server\.cors_origins"):
        ServerConfig(cors_origins=[setting])


async def test_head_is_get_without_the_body(server: Guarded) -> None:
    paths = {path for method, path in walk(server.app) if method == "GET"}
    for path in paths:
        head, get = await server.client.head(path), await server.client.get(path)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        assert head.headers["content-type"] == get.headers["content-type"]
    assert (await server.client.head(CHAT)).status_code == 405


async def test_a_gzipped_body_is_read(server: Guarded) -> None:
    packed = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    data = json.dumps(BODY).encode()
    for content in (gzip.compress(data), gzip.compress(data[:9]) + gzip.compress(data[9:])):
        assert (await server.client.post(CHAT, content=content, headers=packed)).status_code == 200
    parts = [gzip.compress(data)[:20], gzip.compress(data)[20:]]

    async def chunked() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    assert (await server.client.post(CHAT, content=chunked(), headers=packed)).status_code == 200


@pytest.mark.parametrize(
    ("content", "status", "word"),
    [
        (json.dumps(BODY).encode(), 400, "not gzip"),
        (gzip.compress(json.dumps(BODY).encode())[:-9], 400, "breaks off"),
        (gzip.compress(b" " * 50_000_000), 413, "0.1 MB"),
    ],
    ids=["plain", "cut", "large"],  # an id of the bytes would hold the second of their packing
)
async def test_a_body_that_is_labelled_gzip_must_be_that(
    server: Guarded, content: bytes, status: int, word: str
) -> None:
    reply = await server.client.post(CHAT, content=content, headers={"Content-Encoding": "gzip"})
    assert reply.status_code == status
    assert word in reply.json()["error"]["message"]


@pytest.mark.parametrize("coding", ["deflate", "br", "zstd", "gzip, br"])
async def test_other_codings_are_named(server: Guarded, coding: str) -> None:
    reply = await server.client.post(CHAT, json=BODY, headers={"Content-Encoding": coding})
    assert reply.status_code == 415
    assert coding in reply.json()["error"]["message"]


@pytest.mark.parametrize("host", ["localhost", "localhost:9", "127.0.0.1:18000", "[::1]"])
async def test_a_host_counts_by_its_name(server: Guarded, host: str) -> None:
    assert (await server.client.get("/v1/models", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /health HTTP/1.0", b"200"), (b"GET /ready HTTP/1.0", b"200"), (b"GET /v1/models HTTP/1.0", b"200"),
        (b"GET /health HTTP/1.1", b"200"), (b"GET /ready HTTP/1.1", b"200"), (b"GET /v1/models HTTP/1.1", b"400"),
    ],
)  # fmt: skip
async def test_without_a_host(server: Guarded, line: bytes, status: bytes) -> None:
    answer = await raw(server, line + b"\r\nConnection: close\r\n\r\n")
    assert answer.split()[1] == status
    assert status == b"200" or b"no Host header" in answer


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
async def test_other_encodings_of_json_are_read(server: Guarded, encoding: str) -> None:
    content = json.dumps(BODY, ensure_ascii=False).encode(encoding)
    assert (await server.client.post(CHAT, content=content)).status_code == 200


@pytest.mark.parametrize("text", [r"hi \ud83d", r"a\udc00b"])
async def test_half_of_a_surrogate_pair_is_named(server: Guarded, text: str) -> None:
    content = b'{"model": "m", "messages": [{"role": "user", "content": "%s"}]}' % text.encode()
    reply = await server.client.post(CHAT, content=content)
    assert reply.status_code == 400
    assert "surrogate" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {**BODY, "messages": [{"role": "r" * 80_000, "content": "hi"}]}),
        (CHAT, {**BODY, "model": "m" * 80_000}),
        (CHAT, {**BODY, "logit_bias": {"1" * 80_000: 1}}),
        ("/models/m/chat", {"messages": [{"role": "r" * 80_000, "content": "hi"}]}),
    ],
)
async def test_long_values_do_not_come_back_whole(server: Guarded, path: str, body: object) -> None:
    reply = await server.client.post(path, json=body)
    assert reply.status_code in (400, 404)
    assert len(reply.content) < 2000


async def test_what_was_right_before_stays(server: Guarded) -> None:
    for kind in (None, "text/plain", "application/json; charset=utf-8"):
        headers = {"Content-Type": kind} if kind else {}
        request = server.client.build_request("POST", CHAT, content=json.dumps(BODY), headers=headers)
        assert (await server.client.send(request)).status_code == 200
    url = f"http://127.0.0.1:{server.port}"
    for path in ("/v1/models/", "//v1//models", "/health/"):
        assert (await server.client.get(url + path)).status_code == 200, path
    assert (await server.client.post(CHAT + "/", json=BODY)).status_code == 200
