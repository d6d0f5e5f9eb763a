"""The guards around the real application, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lqmf_runner.config import LimitsConfig

from ..support.server.guarded import Guarded, guarded_server, walk

CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi there"}]}
ADMIN_ROUTES = {
    ("POST", f"/models/m/{action}") for action in ("load", "unload", "scale", "promote", "rollback", "split")
}


async def until(condition: Callable[[], Any]) -> None:
    """Let the server go on until this is so; what waits for it is stopped by the test's own time limit."""
    while not condition():  # noqa: ASYNC110 (what is waited for has no event)
        await asyncio.sleep(0.005)


async def test_every_route_but_health_wants_a_key():
    async with guarded_server(keys="sesame,reader:use") as server:
        routes = walk(server.app)
        assert len(routes) > 15
        assert ADMIN_ROUTES | {("GET", "/health"), ("GET", "/metrics"), ("POST", CHAT)} <= routes
        for method, path in sorted(routes):
            for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": "sesam"}):
                status = (await server.client.request(method, path, headers=headers)).status_code
                if path in ("/health", "/ready"):
                    assert status in (200, 204)
                else:
                    assert (path, status) == (path, 401)
            headers = {"x-api-key": "reader"}
            status = (await server.client.request(method, path, headers=headers, json=BODY)).status_code
            assert ((method, path), status == 403) == ((method, path), (method, path) in ADMIN_ROUTES)
            assert status != 401
        assert not server.engines.get("other")


async def test_an_admin_key_loads_and_unloads():
    async with guarded_server(keys="boss:admin") as server:
        for action in ("load", "unload"):
            reply = await server.client.post(f"/models/m/{action}", headers={"x-api-key": "boss"})
            assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    "path", ["/models/m/load/", "//models/m/load", "/models/m%2fload", "/models/./m/load"]
)
async def test_no_spelling_of_a_path_gets_around_the_role(path: str):
    async with guarded_server(keys="reader:use") as server:
        reply = await server.client.post(path, headers={"x-api-key": "reader"})
        assert reply.status_code in (403, 404, 405)
        assert not server.engines


async def test_an_id_goes_back_and_into_the_log_and_nothing_secret_does(tmp_path: Path):
    async with guarded_server(keys="sesame", run_dir=tmp_path, access_log="json") as server:
        client, key = server.client, {"x-api-key": "sesame"}
        reply = await client.post(f"{CHAT}?key=sesame", json=BODY, headers={**key, "x-request-id": "mine-1"})
        assert reply.headers["x-request-id"] == "mine-1"
        made = (await client.get("/models", headers={"x-request-id": "a b"})).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", made)
        await client.get("/line%0abreak", headers=key)
    text = (tmp_path / "access.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["id"], line["path"], line["status"]) for line in lines[:2]] == [
        ("mine-1", CHAT, 200),
        (made, "/models", 401),
    ]
    assert lines[2]["path"] == "/line%0abreak"
    assert lines[0]["key"] == "env-1"
    assert lines[0]["model"] == "m"
    assert (lines[0]["prompt_tokens"], lines[0]["output_tokens"]) == (10, 3)
    assert "sesame" not in text
    assert "hi there" not in text


def sizes_in(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


async def test_the_log_rotates(tmp_path: Path):
    async with guarded_server(run_dir=tmp_path, access_log_mb=0.002) as server:
        for _ in range(120):
            await server.client.get("/health")
    sizes = sizes_in(tmp_path)
    assert sorted(sizes) == ["access.log", *(f"access.log.{n}" for n in range(1, 6))]
    assert max(sizes.values()) <= 2000


async def test_metrics_and_stats_count_what_was_served():
    async with guarded_server() as server:
        client = server.client
        for stream in (False, True):
            reply = await client.post(CHAT, json={**BODY, "stream": stream})
            assert reply.status_code == 200
        assert (await client.post(CHAT, json={**BODY, "model": "made-up"})).status_code == 404
        assert (await client.post(CHAT, json={**BODY, "messages": None})).status_code == 400
        text = (await client.get("/metrics")).text
        stats = (await client.get("/stats")).json()
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    samples = {name: float(value) for name, value in lines}
    assert samples['lqmf_requests_total{model="m",outcome="ok"}'] == 2
    assert samples['lqmf_output_tokens_total{model="m"}'] == 6
    assert samples['lqmf_prompt_tokens_total{model="m"}'] == 20
    assert samples['lqmf_time_to_first_token_seconds_count{model="m"}'] == 2
    assert samples['lqmf_inter_token_latency_seconds_count{model="m"}'] == 4
    assert samples['lqmf_queue_time_seconds_bucket{le="+Inf",model="m"}'] == 2
    assert samples['lqmf_requests_running{model="m"}'] == 0
    assert samples['lqmf_model_memory_bytes{model="m"}'] == 100e6
    assert samples['lqmf_http_responses_total{method="POST",status="404"}'] == 1
    assert "made-up" not in text
    assert stats["models"]["m"]["requests"] == {"ok": 2, "failed": 0, "refused": 0, "cancelled": 0}
    assert stats["models"]["m"]["output_tokens"] == 6
    assert stats["responses"] == {"200": 3, "400": 1, "404": 1}


async def test_running_and_waiting_requests_are_told_apart():
    first, rest = asyncio.Event(), asyncio.Event()
    async with guarded_server(lambda _: [first, "a", rest, "b"]) as server:

        async def running_and_waiting() -> tuple[int, int]:
            model = (await server.client.get("/stats")).json()["models"]["m"]
            return model["running"], model["waiting"]

        answer = asyncio.create_task(server.client.post(CHAT, json=BODY))
        await until(lambda: "m" in server.engines and server.engines["m"].running)
        assert await running_and_waiting() == (0, 1)
        first.set()
        await until(lambda: server.state.metrics.running_and_waiting()[0])
        assert await running_and_waiting() == (1, 0)
        rest.set()
        await answer
        assert await running_and_waiting() == (0, 0)


async def connect(server: Guarded) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", server.port)


async def test_headers_without_end_are_answered_and_not_kept():
    async with guarded_server() as server:
        for headers in ({"x": "a" * 50_000_000}, {f"x{n}": "a" * 100 for n in range(5000)}):
            reply = await server.client.get("/models", headers=headers)
            assert reply.status_code == 431
        assert (await server.client.get("/models", headers={"x": "a" * 60_000})).status_code == 200


async def test_a_large_body_in_one_piece_with_small_headers_is_fine():
    async with guarded_server(max_body_mb=1) as server:
        body = {**BODY, "messages": [{"role": "user", "content": "x" * 900_000}]}
        assert (await server.client.post(CHAT, json=body)).status_code == 200
        body["messages"] = [{"role": "user", "content": "x" * 1_100_000}]
        reply = await server.client.post(CHAT, json=body)
        assert reply.status_code == 413
        assert reply.json()["error"]["message"]


SLOW = LimitsConfig(head_timeout_s=0.2, body_timeout_s=0.2)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b""),
        (b"GET / HTT", b"408"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: a", b"408"),
        (b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 9\r\n\r\n{", b"408"),
        (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\nGET / HT", b"200"),
        (b"\x16\x03\x01 this is no HTTP\r\n\r\n", b"400"),
    ],
)
async def test_a_client_that_does_not_finish_its_request_is_let_go(sent: bytes, status: bytes):
    async with guarded_server(limits=SLOW) as server:
        reader, writer = await connect(server)
        writer.write(sent.replace(b"%d", str(server.port).encode()))
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 15) if status else b""
        assert answer.split(b" ")[1:2] == ([status] if status else [])
        writer.write_eof() if status else None
        await asyncio.wait_for(reader.read(), 15)  # the connection ends
        writer.close()


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 9\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\nno size\r\n"]
)
async def test_a_body_that_breaks_off_is_the_clients_mistake(framing: bytes):
    async with guarded_server() as server:
        _, writer = await connect(server)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%b" % (server.port, framing))
        await writer.drain()
        writer.close()
        await until(lambda: server.state.metrics.responses)
        assert server.state.metrics.responses == {("POST", 400): 1}


async def test_a_client_that_reads_nothing_loses_its_place():
    words = ["x" * 100_000] * 1000
    async with guarded_server(lambda _: words, limits=LimitsConfig(write_timeout_s=0.2)) as server:
        _, writer = await connect(server)
        body = json.dumps({**BODY, "stream": True, "max_tokens": 2000}).encode()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (server.port, len(body), body)
        )
        await until(lambda: server.state.metrics.by_model["m"].outcomes)
        assert server.state.metrics.by_model["m"].outcomes == {"cancelled": 1}
        assert server.engines["m"].running == 0
        writer.close()


async def test_a_request_that_takes_too_long_frees_the_engine():
    forever = asyncio.Event()
    limits = LimitsConfig(request_timeout_s=0.2)
    async with guarded_server(lambda _: ["a", forever], limits=limits) as server:
        plain = await server.client.post(CHAT, json=BODY)
        stream = await server.client.post(CHAT, json={**BODY, "stream": True})
        await server.engines["m"].idle.wait()
    assert plain.status_code == 504
    assert stream.status_code == 200
    *_, last, rest = stream.text.split("\n\n")
    assert "error" in json.loads(last.removeprefix("data: "))
    assert rest == ""


async def test_a_session_belongs_to_its_key():
    async with guarded_server(keys="one,two") as server:

        async def status(method: str, path: str, key: str, **options: Any) -> int:
            return (
                await server.client.request(method, path, headers={"x-api-key": key}, **options)
            ).status_code

        for key in ("one", "one", "two"):
            body = {"message": "hi", "session_id": "s"}
            assert await status("POST", "/models/m/chat", key, json=body) == 200
        turns = [len(request.messages or ()) for request in server.engines["m"].requests]
        assert turns == [1, 3, 1]
        assert await status("DELETE", "/models/m/sessions/s", "two") == 200
        assert await status("DELETE", "/models/m/sessions/s", "two") == 404
        assert await status("DELETE", "/models/m/sessions/s", "one") == 200


async def test_limits_are_those_of_the_key():
    release = asyncio.Event()
    limits = LimitsConfig(concurrent=1)
    async with guarded_server(lambda _: ["a", release], keys="one,two", limits=limits) as server:
        first = asyncio.create_task(server.client.post(CHAT, json=BODY, headers={"x-api-key": "one"}))
        await until(lambda: server.state.lifecycle.running)
        refused = await server.client.post(CHAT, json=BODY, headers={"x-api-key": "one"})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        release.set()
        assert (await server.client.post(CHAT, json=BODY, headers={"x-api-key": "two"})).status_code == 200
        assert (await first).status_code == 200
