"""Runs of mode=benchmark with scripted engines, in a folder of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lqmf_runner.config import BenchmarkMode, ModelConfig, Prompt, PromptsConfig, RunConfig, TrackingConfig
from lqmf_runner.errors import ModelNotFoundError
from lqmf_runner.load.plan import BenchmarkPlan
from lqmf_runner.results.files import read_results
from lqmf_runner.results.schema import Results
from lqmf_runner.runs.benchmark import run_with
from lqmf_runner.runs.context import RunContext
from lqmf_runner.types import EngineStats, GenerationRequest, ModelSpec
from tests.support.engine.scripted import Fail, Say, ScriptedEngine

QUESTION = "What is the capital of France?"
PROMPTS = PromptsConfig(name="few", entries=[Prompt(id=f"p{n}", prompt=QUESTION) for n in range(4)])
Script = Callable[[int, GenerationRequest], Sequence[Say | Fail]]


def answer(_: int, __: GenerationRequest) -> list[Say | Fail]:
    return [Say(0.001, "The capital of France"), Say(0.001, " is Paris.", 3)]


class Bench:
    """A run in a folder of its own; engines are made by script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "run"
        self.folder.mkdir()
        self.engines: list[ScriptedEngine] = []
        self.scripts: dict[str, Script | Exception] = {}
        self.missing: set[str] = set()
        self.engine: type[ScriptedEngine] = ScriptedEngine
        self.stats: list[EngineStats] = []
        self.tracking = TrackingConfig(enabled=False)
        self.mode = BenchmarkMode(concurrency=[1, 3], requests=6, warmup=2)

    def run(self, *models: str) -> int:
        configs = tuple(
            RunConfig(model=ModelConfig(name=name), prompts=PROMPTS, mode=self.mode, tracking=self.tracking)
            for name in models
        )
        context = RunContext(
            config=configs[0], models=configs, resolved={"mode": {"name": "benchmark"}}, run_dir=self.folder,
            command="python -m lqmf_runner mode=benchmark", plans=tuple(map(BenchmarkPlan.of, configs)),
        )  # fmt: skip
        return run_with(context, locate=self._locate, load=self._load)

    @property
    def results(self) -> Results:
        return read_results(self.folder)

    def _locate(self, config: RunConfig) -> ModelSpec:
        if config.model.name in self.missing:
            raise ModelNotFoundError(f"no weights for {config.model.name}", hint="run make demo")
        return ModelSpec(name=config.model.name, format="openai", path="", version="v1")

    async def _load(self, spec: ModelSpec, on_progress: Callable[[float], None] | None) -> ScriptedEngine:
        assert all(engine.closed for engine in self.engines), "one model at a time"
        script = self.scripts.get(spec.name, answer)
        if isinstance(script, Exception):
            raise script
        if on_progress is not None:
            on_progress(0.5)
        self.engines.append(self.engine(script, stats=self.stats))
        return self.engines[-1]
