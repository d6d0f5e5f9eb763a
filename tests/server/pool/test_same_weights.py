"""One set of weights under several names: it is loaded once, and each name comes and goes by itself."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from lqmf_runner.config import ServerConfig
from lqmf_runner.engine import EngineClient
from lqmf_runner.server.app import create_app
from lqmf_runner.server.pool.catalog import identity
from lqmf_runner.server.pool.pool import ModelPool
from lqmf_runner.server.routes import ROUTES
from lqmf_runner.server.state import create_state
from lqmf_runner.types import ModelSpec

from ...support.server.fakes import FakeCatalog, FakeEngine, live


def spec(name: str, path: Path, n_ctx: int = 512, version: str = "v1") -> ModelSpec:
    return ModelSpec(name=name, format="gguf", path=str(path), version=version, options={"n_ctx": n_ctx})


@pytest.fixture
def specs(tmp_path: Path) -> dict[str, ModelSpec]:
    """`alias` is a link to the file of `own` and `hard` another name of it; `other` is a file of the same content."""
    for name in ("own", "other"):
        (tmp_path / f"{name}.gguf").write_bytes(b"GGUF")
    (tmp_path / "alias.gguf").symlink_to("own.gguf")
    os.link(tmp_path / "own.gguf", tmp_path / "hard.gguf")
    names = ("own", "alias", "hard", "other")
    return {name: spec(name, tmp_path / f"{name}.gguf") for name in names} | {
        "longer": spec("longer", tmp_path / "own.gguf", n_ctx=1024)
    }


class Pooled:
    """A pool over these models, and the engines that it has loaded."""

    def __init__(self, specs: dict[str, ModelSpec], **config: Any) -> None:
        self.engines: dict[str, FakeEngine] = {}
        self.config = ServerConfig(**config)
        self.pool = ModelPool(FakeCatalog(dict.fromkeys(specs, 100.0), specs), self.config, load=self._load)

    async def _load(self, spec: ModelSpec, on_progress: Any) -> EngineClient:
        engine = self.engines[spec.name] = FakeEngine(name=spec.name, memory_mb=545.0)
        return engine

    async def use(self, name: str) -> EngineClient:
        async with self.pool.lease(name) as (_, engine):
            return engine

    @property
    def names(self) -> list[str]:
        return [loaded.name for loaded in self.pool.names]


def test_identity_is_of_the_files_their_content_and_the_settings(specs: dict[str, ModelSpec]):
    same = identity(specs["own"])
    assert same is not None
    assert identity(specs["alias"]) == identity(specs["hard"]) == same
    assert same not in (identity(specs["other"]), identity(specs["longer"]))
    assert same != identity(ModelSpec(name="b", format="gguf", path=specs["own"].path, version="v2"))
    assert identity(ModelSpec(name="remote", format="openai", path="")) is None
    assert identity(spec("gone", Path(specs["own"].path + ".gone"))) is None


async def test_other_names_of_loaded_weights_answer_from_the_same_load(specs: dict[str, ModelSpec]):
    world = Pooled(specs, max_models=2, max_memory_mb=1200)
    engine = await world.use("own")
    assert await world.use("alias") is engine
    assert await world.use("hard") is engine
    assert world.names == ["own", "alias", "hard"]
    assert (world.pool.memory_mb, len(world.pool.models)) == (545.0, 1)
    assert await world.use("longer") is not engine
    assert world.pool.memory_mb == 1090.0
    assert list(world.engines) == ["own", "longer"]


async def test_unloading_a_name_leaves_the_others(specs: dict[str, ModelSpec]):
    world = Pooled(specs)
    engine = await world.use("own")
    await world.use("alias")
    async with world.pool.lease("alias"):
        assert await world.pool.unload("own")  # not refused: the request goes on
    assert (world.names, world.engines["own"].closed) == (["alias"], False)
    assert await world.use("alias") is engine
    assert await world.use("own") is engine
    assert await world.pool.unload("own")
    assert await world.pool.unload("alias")
    assert (world.names, world.engines["own"].closed) == ([], True)
    assert not await world.pool.unload("alias")


async def test_all_names_go_with_an_evicted_model(specs: dict[str, ModelSpec]):
    world = Pooled(specs, max_models=1)
    await world.use("own")
    await world.use("alias")
    await world.use("other")
    assert (world.names, world.engines["own"].closed) == (["other"], True)


async def test_a_pin_of_one_name_keeps_the_model(specs: dict[str, ModelSpec]):
    world = Pooled(specs, max_models=1, pin=["alias"])
    await world.use("own")
    await world.use("alias")
    assert world.pool.models[0].pinned


@asynccontextmanager
async def served(specs: dict[str, ModelSpec]) -> AsyncIterator[httpx.AsyncClient]:
    world = Pooled(specs)
    async with live(create_app(create_state(world.config, world.pool, ROUTES))) as client:
        yield client


async def test_the_api_lists_each_name_and_counts_the_memory_once(specs: dict[str, ModelSpec]):
    async with served(specs) as client:
        for name in ("own", "alias"):
            answer = await client.post(
                "/v1/completions", json={"model": name, "prompt": "hi", "max_tokens": 3}
            )
            assert (answer.status_code, answer.json()["model"]) == (200, name)
        listed = (await client.get("/models")).json()
        assert [(m["name"], m["same_as"]) for m in listed["models"]] == [("own", None), ("alias", "own")]
        assert listed["memory_mb"] == 545.0
        stats = (await client.get("/stats")).json()
        assert stats["memory_mb"] == 545.0
        assert {name: m["state"] for name, m in stats["models"].items()} == {"own": "ready", "alias": "ready"}
        assert (await client.get("/")).json()["loaded_models"] == ["own", "alias"]
        available = (await client.get("/models/available")).json()["models"]
        assert {m["name"] for m in available if m["loaded"]} == {"own", "alias"}
        unloaded = (await client.post("/models/own/unload")).json()
        assert (unloaded["was_loaded"], unloaded["memory_mb"]) == (True, 0.0)
        listed = (await client.get("/models")).json()["models"]
        assert [(m["name"], m["same_as"]) for m in listed] == [("alias", None)]


async def test_a_second_name_of_what_is_loaded_is_loaded_already(specs: dict[str, ModelSpec]):
    async with served(specs) as client:
        answers = [(await client.post(f"/models/{name}/load")).json() for name in ("own", "alias")]
    assert [answer["already_loaded"] for answer in answers] == [False, True]
