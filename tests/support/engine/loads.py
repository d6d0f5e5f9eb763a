"""Loads on scripted engines, in virtual time."""

from __future__ import annotations

from collections.abc import Callable

from lqmf_runner.config import Prompt, PromptsConfig
from lqmf_runner.load.base import LoadShape
from lqmf_runner.load.run import LoadLog, run_load
from lqmf_runner.types import GenerationRequest, SamplingParams
from tests.support.engine.scripted import Fail, Say, ScriptedEngine, planned, run_virtual

PROMPTS = PromptsConfig(name="t", entries=[Prompt(id=f"p{n}", prompt=f"question {n}") for n in range(3)])


def simple(_: int, __: GenerationRequest) -> list[Say | Fail]:
    """Three tokens in 0.4 s."""
    return [Say(0.2, "a"), Say(0.1, "b"), Say(0.1, "c")]


def run_shape(
    engine: ScriptedEngine,
    shape: LoadShape,
    requests: int,
    prompts: PromptsConfig = PROMPTS,
    log: LoadLog | None = None,
) -> LoadLog:
    """Run a load of so many greedy requests."""

    async def go(clock: Callable[[], float]) -> LoadLog:
        return await run_load(
            engine, shape, planned(prompts, requests), SamplingParams(temperature=0.0), model="m", log=log,
            clock=clock,
        )  # fmt: skip

    return run_virtual(go)
