from __future__ import annotations

import base64
from typing import Any

import pytest

from lqmf_runner.server.errors import ErrorShapes
from lqmf_runner.server.guards.cors import CorsPolicy
from lqmf_runner.server.guards.hosts import HostPolicy
from lqmf_runner.server.guards.keys import KeyRing, parse_keys
from lqmf_runner.server.guards.security import Security
from lqmf_runner.server.routes import ROUTES

from ...support.server.raw import HOST, Reply, call, hello, scope_of

KEYS = KeyRing(parse_keys("sesame,reader:use"))
ERRORS = ErrorShapes(ROUTES)
OPEN = KeyRing()


async def ask(
    method: str = "GET",
    path: str = "/",
    *headers: tuple[bytes, bytes],
    keys: KeyRing = OPEN,
    host: tuple[bytes, bytes] = HOST,
    **options: Any,
) -> Reply:
    app = Security(hello, keys=keys, hosts=HostPolicy("127.0.0.1"), errors=ERRORS, **options)
    return await call(app, scope_of(method, path, [host, *headers]))


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer sesame")],
        [(b"authorization", b"bearer  sesame ")],
        [(b"x-api-key", b"sesame")],
        [(b"authorization", b"Basic abc"), (b"x-api-key", b"sesame")],
        [(b"authorization", b"Basic " + base64.b64encode(b"any name:sesame"))],
    ],
)
async def test_a_key_opens(headers: list[tuple[bytes, bytes]]) -> None:
    assert (await ask("POST", "/v1/completions", *headers, keys=KEYS)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"Bearer wrong")],
        [(b"authorization", b"sesame")],
        [(b"authorization", b"Bearer ")],
        [(b"x-api-key", b"")],
        [(b"cookie", b"key=sesame")],
        [(b"authorization", b"Basic")],
        [(b"authorization", b"Basic sesame")],
        [(b"authorization", b"Basic " + base64.b64encode(b"sesame:"))],
        [(b"authorization", b"Basic " + base64.b64encode(b"sesame"))],
    ],
)
@pytest.mark.parametrize(
    "path", ["/", "/health/", "//health", "/healthz", "/models/health/load", "/nothing", "/ui"]
)
async def test_without_one_every_path_is_shut(path: str, headers: list[tuple[bytes, bytes]]) -> None:
    reply = await ask("POST", path, *headers, keys=KEYS)
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert b"sesame" not in reply.body


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_probes_are_open_to_all(path: str) -> None:
    assert (await ask("GET", path, keys=KEYS)).status == 200


async def test_errors_have_the_shape_of_their_route() -> None:
    openai = (await ask("POST", "/v1/chat/completions", keys=KEYS)).json
    assert set(openai["error"]) == {"message", "type", "param", "code"}
    assert set((await ask("GET", "/models", keys=KEYS)).json) == {"error", "detail", "hint"}


@pytest.mark.parametrize(
    ("host", "good"),
    [
        (b"127.0.0.1:8000", True),
        (b"localhost:8000", True),
        (b"LOCALHOST:8000", True),
        (b"[::1]:8000", True),
        (b"api.example:8000", True),
        (b"api.example", True),
        (b"other.example:1", True),
        (b"other.example:2", False),
        (b"127.0.0.1", True),
        (b"127.0.0.1:8001", True),  # through a tunnel, or out of a container
        (b"localhost.:8000", True),
        (b"127.0.0.1:port", False),
        (b"127.0.0.1:8000:8000", False),
        (b"evil.example:8000", False),
        (b"127.0.0.1.evil.example:8000", False),
        (b"evil.example@127.0.0.1:8000", False),
        (b"192.0.2.7:8000", False),
        (b"", False),
        (b"[::1", False),
    ],
)
async def test_hosts(host: bytes, good: bool) -> None:
    policy = HostPolicy("127.0.0.1", ["API.example", "other.example:1"])
    app = Security(hello, keys=OPEN, hosts=policy, errors=ERRORS)
    for _ in range(2):  # also from memory
        reply = await call(app, scope_of("GET", "/", [(b"host", host)]))
        assert reply.status == (200 if good else 400)


async def test_hosts_that_are_good_do_not_fill_the_memory() -> None:
    app = Security(hello, keys=OPEN, hosts=HostPolicy("0.0.0.0"), errors=ERRORS)
    for number in range(1000):
        host = b"10.0.%d.%d" % divmod(number, 250)
        assert (await call(app, scope_of("GET", "/", [(b"host", host)]))).status == 200
    assert len(app._known_hosts) < 100


async def test_one_host_header_no_more_and_no_less() -> None:
    app = Security(hello, keys=OPEN, hosts=HostPolicy("127.0.0.1"), errors=ERRORS)
    assert (await call(app, scope_of("GET", "/", []))).status == 400
    assert (await call(app, scope_of("GET", "/", [HOST, (b"host", b"evil.example")]))).status == 400


ORIGIN = b"origin"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (b"http://127.0.0.1:8000", 200),
        (b"https://127.0.0.1:8000", 200),  # behind a proxy that ends TLS
        (b"http://evil.example", 403),
        (b"http://127.0.0.1:9000", 403),
        (b"http://127.0.0.1:8000.evil.example", 403),
        (b"null", 403),
        (b"", 403),
        (b"http://[", 403),
    ],
)
async def test_a_foreign_page_changes_nothing(origin: bytes, status: int) -> None:
    assert (await ask("POST", "/v1/completions", (ORIGIN, origin))).status == status


async def test_without_cors_no_page_may_read() -> None:
    reply = await ask("GET", "/models", (ORIGIN, b"http://evil.example"))
    assert not [name for name in reply.headers if name.startswith("access-control")]
    preflight = await ask(
        "OPTIONS", "/models", (ORIGIN, b"http://a"), (b"access-control-request-method", b"POST")
    )
    assert not [name for name in preflight.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origin", ["https://app.example", "*"])
async def test_the_password_that_a_browser_remembers_is_of_no_use_to_another_site(origin: str) -> None:
    cors = {"cors": CorsPolicy([origin]), "keys": KEYS}
    password = (b"authorization", b"Basic " + base64.b64encode(b"any name:sesame"))
    foreign, own = (b"origin", b"https://app.example"), (b"origin", b"http://127.0.0.1:8000")
    assert (await ask("POST", "/models/a/unload", foreign, password, **cors)).status == 401
    assert (await ask("POST", "/models/a/unload", own, password, **cors)).status == 200
    assert (await ask("GET", "/docs", password, **cors)).status == 200


async def test_cors_for_the_configured_origin_alone() -> None:
    cors = {"cors": CorsPolicy(["https://app.example/"]), "keys": KEYS}
    app, evil = (ORIGIN, b"https://app.example"), (ORIGIN, b"https://evil.example")
    wants = (b"access-control-request-method", b"POST")
    preflight = await ask("OPTIONS", "/v1/completions", app, wants, **cors)  # carries no key, by the standard
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    assert (await ask("OPTIONS", "/v1/completions", evil, wants, **cors)).status == 401
    assert (await ask("POST", "/v1/completions", app, **cors)).status == 401  # the key is still wanted
    reply = await ask("POST", "/v1/completions", app, (b"x-api-key", b"sesame"), **cors)
    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == "https://app.example"
    assert (await ask("POST", "/v1/completions", evil, (b"x-api-key", b"sesame"), **cors)).status == 403


async def test_every_answer_has_the_security_headers() -> None:
    for reply in (
        await ask(),
        await ask("POST", "/", (ORIGIN, b"http://evil.example")),
        await ask(keys=KEYS),
    ):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["x-frame-options"] == "DENY"
        assert reply.headers["cache-control"] == "no-store"
