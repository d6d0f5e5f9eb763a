"""Streams whose request waits are not silent, so that proxies keep them (llama.cpp #23994, vllm #51034)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from lqmf_runner.errors import EngineLostError
from lqmf_runner.server.pool.pool import ModelPool

from ...support.server.fakes import fake_server

QUESTION = [{"role": "user", "content": "hi"}]
ROUTES = {
    "/v1/chat/completions": {"model": "m", "messages": QUESTION, "stream": True},
    "/v1/completions": {"model": "m", "prompt": "hi", "stream": True},
    "/models/m/chat": {"message": "hi", "stream": True},
}


@pytest.fixture
def slow_lease(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """A model that takes a while to load; an error in the list is raised then."""
    errors: list[Exception] = []
    load = ModelPool.lease

    def lease(self: ModelPool, *args: Any, **options: Any) -> Any:
        return _Late(load(self, *args, **options), errors)

    monkeypatch.setattr(ModelPool, "lease", lease)
    return errors


class _Late:
    def __init__(self, inner: Any, errors: list[Exception]) -> None:
        self._inner, self._errors = inner, errors

    async def __aenter__(self) -> Any:
        await asyncio.sleep(0.5)
        if self._errors:
            raise self._errors[0]
        return await self._inner.__aenter__()

    async def __aexit__(self, *about: Any) -> Any:
        return await self._inner.__aexit__(*about)


@pytest.mark.parametrize("path", ROUTES)
async def test_a_comment_is_sent_while_it_waits(path: str, slow_lease: list[Exception]) -> None:
    async with fake_server(keepalive_s=0.1) as (client, _):
        reply = await client.post(path, json=ROUTES[path])
        whole = [event for event in reply.text.split("\n\n") if event and not event.startswith(":")]
        assert reply.text.startswith(": ")
        assert 2 <= reply.text.count(": keep-alive") <= 5
        assert all(event.startswith("data: ") for event in whole)
        assert len(whole) > 1


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("error", [EngineLostError("it died"), ValueError("secret")])
async def test_an_error_after_that_is_an_event(
    path: str, error: Exception, slow_lease: list[Exception]
) -> None:
    slow_lease.append(error)
    async with fake_server(keepalive_s=0.1) as (client, _):
        reply = await client.post(path, json=ROUTES[path])
        assert reply.status_code == 200
        last = json.loads(reply.text.rstrip().rpartition("data: ")[2])
        assert set(last) == ({"error"} if path.startswith("/v1") else {"error", "detail", "hint"})
        assert "secret" not in reply.text
    async with fake_server(keepalive_s=None) as (client, _):
        assert (await client.post(path, json=ROUTES[path])).status_code >= 500
