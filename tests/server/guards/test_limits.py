from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

import pytest

from lqmf_runner.config import LimitsConfig
from lqmf_runner.errors import TooManyRequestsError, UnavailableError
from lqmf_runner.server.asgi import App
from lqmf_runner.server.errors import ErrorShapes
from lqmf_runner.server.guards.keys import KeyRing, parse_keys
from lqmf_runner.server.guards.limits import ClientQuota, Limits
from lqmf_runner.server.routes import ROUTES
from lqmf_runner.server.state import Lifecycle

from ...support.server.raw import HOST, Slow, call, hello, scope_of
from .test_keys import Clock


def limited(app: App, lifecycle: Lifecycle | None = None, **options: Any) -> Limits:
    return Limits(app, lifecycle=lifecycle or Lifecycle(), errors=ErrorShapes(ROUTES), **options)


def take(quota: ClientQuota, client: str, n: int) -> int:
    """How many of n requests, one after the other, are let in."""
    admitted = 0
    for _ in range(n):
        try:
            with quota.admit(client):
                admitted += 1
        except TooManyRequestsError:
            pass
    return admitted


def test_a_bucket_refills_steadily_up_to_its_burst() -> None:
    clock = Clock()
    quota = ClientQuota(LimitsConfig(requests_per_minute=60, burst=3), clock)
    assert take(quota, "a", 5) == 3
    assert take(quota, "b", 5) == 3  # the others have their own
    clock.now += 2
    assert take(quota, "a", 5) == 2
    clock.now += 1000
    assert take(quota, "a", 5) == 3


def test_retry_after_is_when_the_next_one_is_let_in() -> None:
    clock = Clock()
    quota = ClientQuota(LimitsConfig(requests_per_minute=6, burst=1), clock)
    take(quota, "a", 1)
    clock.now += 4
    with pytest.raises(TooManyRequestsError) as caught, quota.admit("a"):
        pass
    assert caught.value.retry_after_s == pytest.approx(6)
    clock.now += 6.001
    assert take(quota, "a", 1) == 1


def test_concurrency_is_counted_while_requests_run() -> None:
    quota = ClientQuota(LimitsConfig(concurrent=2))
    with ExitStack() as running:
        running.enter_context(quota.admit("a"))
        running.enter_context(quota.admit("a"))
        assert take(quota, "a", 1) == 0
        assert take(quota, "b", 1) == 1
    assert take(quota, "a", 1) == 1


def test_a_request_that_is_refused_for_its_number_costs_no_token() -> None:
    quota = ClientQuota(LimitsConfig(requests_per_minute=60, burst=2, concurrent=1), Clock())
    with quota.admit("a"):
        assert take(quota, "a", 5) == 0
    assert take(quota, "a", 5) == 1


def test_clients_that_have_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lqmf_runner.server.guards.limits._MOST_CLIENTS", 10)
    clock = Clock()
    quota = ClientQuota(LimitsConfig(requests_per_minute=60, burst=1, concurrent=1), clock)
    with quota.admit("stays"):
        for number in range(100):
            clock.now += 2
            take(quota, f"client {number}", 1)
        assert len(quota._clients) <= 11
        assert take(quota, "stays", 1) == 0


async def test_too_many_requests_are_told_when_to_come_again() -> None:
    app = limited(hello, quota=ClientQuota(LimitsConfig(requests_per_minute=2, burst=1), Clock()))
    assert (await call(app, scope_of("POST", "/v1/completions"))).status == 200
    reply = await call(app, scope_of("POST", "/v1/completions"))
    assert (reply.status, reply.headers["retry-after"]) == (429, "30")
    assert (await call(app, scope_of("GET", "/models"))).status == 200  # looking is free


async def test_keys_have_limits_of_their_own() -> None:
    ring = KeyRing(parse_keys("one,two"))
    app = limited(hello, quota=ClientQuota(LimitsConfig(requests_per_minute=2, burst=1), Clock()))

    async def status(key: bytes) -> int:
        return (await call(app, scope_of("POST", "/", state={"api_key": ring.find(key)}))).status

    assert [await status(key) for key in (b"one", b"one", b"two")] == [200, 429, 200]


@pytest.mark.parametrize(
    ("headers", "parts", "status"),
    [
        ([(b"content-length", b"10")], [b"x" * 10], 200),
        ([(b"content-length", b"11")], [b"x" * 11], 413),
        ([], [b"x" * 5, b"x" * 5], 200),
        ([], [b"x" * 5, b"x" * 6], 413),
        ([(b"content-length", b"1")], [b"x" * 11], 413),
    ],
)
async def test_bodies_have_a_limit(
    headers: list[tuple[bytes, bytes]], parts: list[bytes], status: int
) -> None:
    app = limited(hello, max_body_bytes=10)
    assert (await call(app, scope_of("POST", "/", [HOST, *headers]), parts)).status == status


async def test_a_request_that_takes_too_long_ends_with_an_error() -> None:
    slow, lifecycle = Slow(), Lifecycle()
    reply = await call(limited(slow, lifecycle, timeout_s=0.01), scope_of("POST", "/v1/completions"))
    assert reply.status == 504
    assert slow.cancelled
    assert lifecycle.running == 0


async def test_a_stream_that_takes_too_long_ends_with_an_error_event() -> None:
    reply = await call(limited(Slow(stream=True), timeout_s=0.01), scope_of("POST", "/v1/completions"))
    assert reply.status == 200
    assert reply.complete
    first, error, rest = reply.body.split(b"\n\n")
    assert (first, rest) == (b"data: 1", b"")
    assert b'"error"' in error


async def test_a_timeout_of_the_application_is_not_taken_for_ours() -> None:
    async def fails(*_: object) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await call(limited(fails, timeout_s=60), scope_of("GET", "/"))


async def test_draining_lets_requests_end_and_takes_no_new_ones() -> None:
    slow, lifecycle = Slow(stream=True), Lifecycle()
    app = limited(slow, lifecycle)
    running = asyncio.create_task(call(app, scope_of("POST", "/v1/completions")))
    await slow.started.wait()
    lifecycle.draining = True
    refused = await call(app, scope_of("POST", "/v1/completions"))
    assert (refused.status, refused.headers["connection"]) == (503, "close")
    assert lifecycle.running == 1
    slow.release.set()
    assert (await running).body == b"data: 1\n\nend"
    assert lifecycle.running == 0


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_status_is_told_while_draining(path: str) -> None:
    assert (await call(limited(hello, Lifecycle(draining=True)), scope_of("GET", path))).status == 200


async def test_what_still_runs_at_the_end_of_the_draining_is_told_so() -> None:
    plain, stream, lifecycle = Slow(), Slow(stream=True), Lifecycle()
    tasks = [
        asyncio.create_task(call(limited(app, lifecycle), scope_of("POST", "/v1/completions")))
        for app in (plain, stream)
    ]
    await plain.started.wait()
    await stream.started.wait()
    lifecycle.end_all(UnavailableError("the end"))
    first, second = await asyncio.gather(*tasks)
    assert first.status == 503
    assert b"the end" in first.body
    assert b"the end" in second.body
    assert second.complete
