"""A model is loaded at its first use, and only then."""

from __future__ import annotations

from collections.abc import Callable

from lqmf_runner.engine.client import EngineClient
from lqmf_runner.engine.on_demand import OnDemandEngine
from lqmf_runner.types import ModelSpec
from tests.support.engine.scripted import ScriptedEngine

SPEC = ModelSpec(name="m", format="gguf", path="")


class Observer:
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.shares: list[tuple[str, float]] = []
        self.ended: list[tuple[str, str]] = []

    def loading(self, model: str, share: float) -> None:
        self.shares.append((model, share))

    def work_started(self, model: str, what: str, total: int) -> None:
        raise NotImplementedError

    def work_advanced(self, done: int) -> None:
        raise NotImplementedError

    def work_ended(self, model: str, what: str, summary: str) -> None:
        self.ended.append((model, what))


class Loads:
    """Loads scripted engines and keeps them."""

    def __init__(self) -> None:
        self.engines: list[ScriptedEngine] = []

    async def __call__(self, spec: ModelSpec, on_progress: Callable[[float], None] | None) -> EngineClient:
        assert on_progress is not None
        on_progress(0.5)
        self.engines.append(ScriptedEngine(lambda *_: []))
        return self.engines[-1]


async def test_a_model_is_loaded_once_and_closed_at_the_end() -> None:
    load, observer = Loads(), Observer()
    engine = OnDemandEngine(SPEC, load, observer)
    assert await engine.client() is await engine.client()
    assert len(load.engines) == 1
    assert (observer.shares, observer.ended) == ([("m", 0.5)], [("m", "load")])
    await engine.close()
    assert load.engines[0].closed


async def test_a_model_that_was_not_used_is_not_loaded() -> None:
    load = Loads()
    await OnDemandEngine(SPEC, load, Observer()).close()
    assert load.engines == []
