"""Versions that take over, over real HTTP, with scripted engines and a registry in memory."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest

from lqmf_runner.config import TrackingConfig
from lqmf_runner.errors import TrackingError
from lqmf_runner.server.versions.registry import Registry
from lqmf_runner.types import GenerationRequest

from ...support.runs.versions import MemoryRegistry, in_memory, version
from ...support.server.fakes import FakeEngine, fake_server

BODY: dict[str, Any] = {"model": "x", "messages": [{"role": "user", "content": "hi"}]}
SIZES = {"x": 100.0, "x@3": 100.0, "x@4": 100.0, "x@5": 100.0, "huge@1": 50_000.0}


@contextlib.asynccontextmanager
async def serving(
    memory: MemoryRegistry, script: Any = None, **options: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, dict[str, FakeEngine]]]:
    registry = in_memory(memory)
    scripts = (script,) if script else ()
    async with fake_server(*scripts, sizes=SIZES, registry=registry, **options) as (client, engines):
        yield client, engines


def three() -> MemoryRegistry:
    return MemoryRegistry(version("x", 3, "champion"), version("x", 4, "candidate"), version("x", 5))


async def test_a_promote_under_16_streams_drops_none_and_the_old_one_drains():
    go, all_run = asyncio.Event(), {16: asyncio.Event(), 32: asyncio.Event()}
    numbers = itertools.count(1)

    def script(request: GenerationRequest) -> Sequence[str | asyncio.Event]:
        if running := all_run.get(next(numbers)):
            running.set()
        return ["a", go, "b"]

    async with serving(three(), script, shares={"x": {"x@3": 1}}) as (client, engines):

        async def stream() -> tuple[str, str]:
            async with client.stream(
                "POST", "/v1/chat/completions", json={**BODY, "stream": True}
            ) as response:
                return response.headers["x-model-version"], "".join(
                    [part async for part in response.aiter_text()]
                )

        before = [asyncio.create_task(stream()) for _ in range(16)]
        await all_run[16].wait()
        answer = await client.post("/models/x/promote", json={"version": "candidate"})
        assert answer.json() == {"name": "x", "now": {"x@4": 1.0}, "before": {"x@3": 1.0}}
        after = [asyncio.create_task(stream()) for _ in range(16)]
        await all_run[32].wait()
        assert not engines["x@3"].closed, "it answers still"
        go.set()
        done = await asyncio.gather(*before, *after)
        assert [label for label, _ in done] == ["x@3"] * 16 + ["x@4"] * 16
        assert all('"content":"b"' in text and text.endswith("data: [DONE]\n\n") for _, text in done)
        assert all(f'"system_fingerprint":"{label}"' in text for label, text in done)
        await engines["x@3"].ended.wait()
        models = (await client.get("/models")).json()["models"]
        assert [model["name"] for model in models] == ["x@4"]
        counted = (await client.get("/stats")).json()["models"]
        assert [counted[label]["requests"]["ok"] for label in ("x@3", "x@4")] == [16, 16]


async def test_the_versions_that_a_request_can_name_are_listed_with_who_answers():
    memory = three()
    async with serving(memory, shares={"x": {"x@3": 3, "x@4": 1}}) as (client, _):
        await client.post("/v1/chat/completions", json={**BODY, "model": "x@candidate"})
        found = (await client.get("/versions/available")).json()["versions"]
        shown = [(each["name"], each["aliases"], each["share"], each["loaded"]) for each in found]
        assert shown == [
            ("x@5", [], 0.0, False), ("x@4", ["candidate"], 0.25, True), ("x@3", ["champion"], 0.75, False),
        ]  # fmt: skip
        await client.post("/models/x/promote", json={"version": 5})
        found = (await client.get("/versions/available")).json()["versions"]
        assert [(each["aliases"], each["was"], each["share"]) for each in found] == [
            (["champion"], [], 1.0), (["candidate"], [], 0.0), ([], ["champion"], 0.0),
        ]  # fmt: skip
    async with fake_server(sizes=SIZES) as (client, _):
        assert (await client.get("/versions/available")).json() == {"versions": []}


async def test_a_rollback_goes_back_and_a_second_one_forward():
    memory = three()
    async with serving(memory, shares={"x": {"x@3": 1}}) as (client, _):
        await client.post("/models/x/promote", json={"version": 4})
        assert memory.on("x", "champion") == 4
        assert (await client.post("/models/x/rollback")).json()["now"] == {"x@3": 1.0}
        assert memory.on("x", "champion") == 3
        assert (await client.post("/v1/chat/completions", json=BODY)).headers["x-model-version"] == "x@3"
        assert (await client.post("/models/x/rollback")).json()["now"] == {"x@4": 1.0}


async def test_of_two_servers_that_promote_at_once_one_wins_and_the_other_changes_nothing():
    memory = three()
    loop = asyncio.get_running_loop()
    async with serving(memory) as (first, _):

        async def faster() -> None:
            assert (await first.post("/models/x/promote", json={"version": 4})).status_code == 200

        def late(config: TrackingConfig, change: Any, *, timeout_s: int = 0) -> Any:
            """The second server has loaded its version; before it says so, the first one is done."""
            asyncio.run_coroutine_threadsafe(faster(), loop).result()
            return memory.change(config, change)

        registry = Registry(TrackingConfig(), read=memory.read, change=late)
        async with fake_server(sizes=SIZES, registry=registry) as (second, engines):
            assert (await second.post("/v1/chat/completions", json=BODY)).status_code == 200
            assert (await second.post("/models/x/promote", json={"version": 5})).status_code == 409
            assert memory.on("x", "champion") == 4
            await engines["x@5"].ended.wait()
            assert [m["name"] for m in (await second.get("/models")).json()["models"]] == ["x"]
            assert (await second.post("/v1/chat/completions", json=BODY)).status_code == 200


async def test_two_promotions_over_one_model_leave_it_as_it_was():
    memory = MemoryRegistry(version("x", 3, "champion"), version("x", 4), version("y", 1))
    other_began, first_done = threading.Event(), threading.Event()

    def change(config: TrackingConfig, change: Any, *, timeout_s: int = 0) -> Any:
        """The promotion of `x` ends in the middle of that of `y`, which then fails."""
        if change.name == "x":
            assert other_began.wait(10)
            return memory.change(config, change)
        other_began.set()
        assert first_done.wait(10)
        raise TrackingError("MLflow cannot be reached")

    registry = Registry(TrackingConfig(), read=memory.read, change=change)
    shares = {"x": {"x@3": 1}, "y": {"x@3": 1}}
    async with fake_server(sizes={**SIZES, "y@1": 100.0}, registry=registry, shares=shares) as (client, _):
        await client.post("/v1/chat/completions", json={**BODY, "model": "y"})
        first = asyncio.create_task(client.post("/models/x/promote", json={"version": 4}))
        second = asyncio.create_task(client.post("/models/y/promote", json={"version": 1}))
        assert (await first).status_code == 200
        first_done.set()
        assert (await second).status_code == 503
        models = (await client.get("/models")).json()["models"]
        assert {model["name"]: model["pinned"] for model in models} == {"x@3": False, "x@4": False}
        assert (await client.get("/versions")).json()["names"]["y"] == {"x@3": 1.0}


async def test_what_cannot_be_promoted_changes_nothing():
    memory = MemoryRegistry(version("x", 3, "champion"), version("huge", 1), version("x", 9))
    async with serving(memory, pin=["x"]) as (client, engines):
        await client.post("/v1/chat/completions", json=BODY)
        unknown = await client.post("/models/x/promote", json={"version": "nobody"})
        assert (unknown.status_code, unknown.json()["hint"]) == (404, "aliases: champion; versions: 3 to 9")
        assert (await client.post("/models/x/promote", json={"version": 9})).status_code == 404  # no files
        assert (await client.post("/models/huge/promote", json={"version": 1})).status_code == 507
        assert (await client.post("/models/x/rollback")).status_code == 409
        assert (await client.post("/models/x/split", json={"split": {"3": -1}})).status_code == 400
        assert memory.changes == []
        assert not engines["x"].closed
        (model,) = (await client.get("/models")).json()["models"]
        assert (model["name"], model["pinned"]) == ("x", True)


async def test_loading_a_name_loads_the_version_that_answers_it():
    async with serving(three(), shares={"x": {"x@3": 1}}) as (client, engines):
        assert [(await client.post(f"/models/{name}/load")).status_code for name in ("x", "x@candidate")] == [
            200
        ] * 2
        assert list(engines) == ["x@3", "x@4"]
        assert (await client.post("/models/x@champion/unload")).json()["was_loaded"]
        assert engines["x@3"].closed


async def test_of_a_split_name_load_pin_and_unload_mean_all_versions_or_none():
    go, begun = asyncio.Event(), asyncio.Event()

    def script(request: GenerationRequest) -> Sequence[str | asyncio.Event]:
        begun.set()
        return ["a", go, "b"]

    async with serving(three(), script, shares={"x": {"x@3": 9, "x@4": 1}}) as (client, engines):
        loaded = (await client.post("/models/x/load", json={"pin": True})).json()
        assert (loaded["already_loaded"], loaded["memory_mb"]) == (False, 200.0)
        assert (await client.post("/models/x/load")).json()["already_loaded"]
        models = (await client.get("/models")).json()["models"]
        assert [(model["name"], model["pinned"]) for model in models] == [("x@3", True), ("x@4", True)]
        scaled = await client.post("/models/x/scale", json={"replicas": 2})
        assert (scaled.status_code, "x@3, x@4" in scaled.json()["detail"]) == (409, True)
        running = asyncio.create_task(client.post("/v1/chat/completions", json={**BODY, "model": "x@4"}))
        await begun.wait()
        refused = await client.post("/models/x/unload")
        assert (refused.status_code, refused.json()["detail"]) == (409, "x is answering 1 requests")
        assert not any(engine.closed for engine in engines.values()), "one of them is answering"
        go.set()
        assert (await running).status_code == 200
        unloaded = (await client.post("/models/x/unload")).json()
        assert (unloaded["was_loaded"], unloaded["memory_mb"]) == (True, 200.0)
        assert all(engine.closed for engine in engines.values())
        assert not (await client.post("/models/x/unload")).json()["was_loaded"]


async def test_a_version_that_was_tried_and_taken_back_gets_nothing_of_the_next_trial():
    """kserve/kserve#2130: a canary that was rolled back had a share of the next one's traffic."""
    async with serving(three(), shares={"x": {"x@3": 1}}) as (client, engines):
        for shares in ({"3": 50, "4": 50}, {"3": 100, "4": 0}, {"3": 50, "5": 50}):
            assert (await client.post("/models/x/split", json={"split": shares})).status_code == 200
        await engines["x@4"].ended.wait()
        answered = {
            (await client.post("/v1/chat/completions", json=BODY)).headers["x-model-version"]
            for _ in range(24)
        }
        assert answered == {"x@3", "x@5"}
        assert (await client.get("/versions")).json()["names"] == {"x": {"x@3": 0.5, "x@5": 0.5}}


async def test_without_tracking_there_are_no_versions():
    async with fake_server() as (client, _):
        answer = await client.post("/models/m/promote", json={"version": 1})
        assert (answer.status_code, "tracking=none" in answer.json()["detail"]) == (400, True)


@pytest.mark.parametrize("header", [{"x-session-id": "one"}, {}])
async def test_a_split_keeps_a_session_with_its_version(header: dict[str, str]):
    async with serving(three()) as (client, _):
        split = await client.post("/models/x/split", json={"split": {"champion": 50, "candidate": 50}})
        assert split.json()["now"] == {"x@3": 0.5, "x@4": 0.5}
        found = {
            (await client.post("/v1/chat/completions", json=BODY, headers=header)).headers["x-model-version"]
            for _ in range(24)
        }
        assert len(found) == (1 if header else 2)
        assert (await client.get("/v1/models")).json()["data"][0]["id"] == "x"
        assert (await client.get("/v1/models/x@candidate")).json()["id"] == "x@candidate"
        assert (await client.get("/v1/models/x@nobody")).status_code == 404
        assert (await client.get("/versions")).json() == {"names": {"x": {"x@3": 0.5, "x@4": 0.5}}}
        native = {
            (await client.post("/models/x/chat", json={"message": "hi", "session_id": "s"})).json()["version"]
            for _ in range(4)
        }
        assert len(native) == 1
