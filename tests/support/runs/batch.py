"""Runs of mode=batch with scripted engines, in a folder of their own."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from lqmf_runner.config import BatchMode, ModelConfig, RunConfig, TrackingConfig
from lqmf_runner.engine import EngineClient
from lqmf_runner.modes.runs.batch import check
from lqmf_runner.runs.batch.job import run_with
from lqmf_runner.runs.context import RunContext
from lqmf_runner.types import GenerationRequest, ModelSpec
from tests.support.engine.scripted import Fail, Say, ScriptedEngine
from tests.support.server.fakes import FakeEngine

CALL = '<tool_call>{"name": "add", "arguments": {"x": 1}}</tool_call>'
Script = Callable[[int, GenerationRequest], Sequence[Say | Fail]]


def prompt_of(request: GenerationRequest) -> str:
    return (request.messages or ())[-1].content


def echo(_: int, request: GenerationRequest) -> list[Say | Fail]:
    return [Say(0.0, "you said "), Say(0.0, prompt_of(request))]


class Batch:
    """Runs over one input file in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.input = folder / "questions.txt"
        self.output = folder / "questions.answers.jsonl"
        self.run_dir = folder / "run"
        self.run_dir.mkdir(exist_ok=True)
        self.engines: list[ScriptedEngine] = []
        self.script: Script = echo
        self.settings: dict[str, Any] = {"retry_wait_s": 0.0}
        self.model = "a"
        self.other: Callable[[ModelSpec], Awaitable[EngineClient]] | None = None
        """Loads another engine than a scripted one."""
        self.spec = functools.partial(ModelSpec, format="openai", path="")

    def run(self) -> int:
        mode = BatchMode(**{"input": str(self.input), **self.settings})
        tracking = TrackingConfig(enabled=False)
        config = RunConfig(model=ModelConfig(name=self.model), mode=mode, tracking=tracking)
        check(config)
        context = RunContext(
            config=config,
            models=(config,),
            resolved={},
            run_dir=self.run_dir,
            command="python -m lqmf_runner",
        )
        return run_with(context, locate=self._locate, load=self._load)

    def write(self, records: Sequence[dict[str, Any]]) -> None:
        """Make these objects the lines of the input."""
        self.input.write_text("\n".join(map(json.dumps, records)))

    def answers(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    @property
    def asked(self) -> list[str]:
        """Prompts that the last engine was sent."""
        return [prompt_of(request) for request in self.engines[-1].requests]

    def _locate(self, config: RunConfig) -> ModelSpec:
        return self.spec(name=config.model.name)

    async def _load(self, spec: ModelSpec, _: object) -> EngineClient:
        if self.other is not None:
            return await self.other(spec)
        self.engines.append(ScriptedEngine(self.script))
        return self.engines[-1]


def lines(n: int) -> str:
    """An input of plain questions."""
    return "".join(f"question {i}\n" for i in range(1, n + 1))


def calling(request: GenerationRequest) -> list[str]:
    """The script of an engine that calls the tools that it is offered."""
    return ["Let me. ", CALL[:20], CALL[20:]] if request.tools else ["Hel", "lo"]


async def load_fake(_: ModelSpec) -> EngineClient:
    """An engine that scores, tells log-probabilities, and calls tools."""
    return FakeEngine(calling)
