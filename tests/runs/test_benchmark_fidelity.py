"""mode=benchmark with a reference."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from lqmf_runner.config import BenchmarkMode, FidelityConfig, ModelConfig, RunConfig
from lqmf_runner.errors import ModelNotFoundError
from lqmf_runner.load.plan import BenchmarkPlan
from lqmf_runner.runs.benchmark import run_with
from lqmf_runner.runs.context import RunContext
from lqmf_runner.tracking.values import model_metrics
from lqmf_runner.types import ModelSpec, Window, WindowScore
from tests.support.engine.bigram import BigramEngine, table
from tests.support.runs.bench import PROMPTS, Bench


class Fidelity(Bench):
    """A run with a reference; engines have a table instead of weights."""

    loaded: list[str]
    kind: type[BigramEngine] = BigramEngine

    def run_against(self, reference: str, *models: str, **settings: object) -> int:
        self.loaded = []
        config = FidelityConfig(max_tokens=1024, divergence_tokens=4, cache_dir=str(self.folder / "cache"))
        configs = [
            RunConfig(
                model=ModelConfig(name=name), prompts=PROMPTS, mode=self.mode, tracking=self.tracking,
                reference=reference, fidelity=dataclasses.replace(config, **settings),
            )
            for name in (reference, *models)
        ]  # fmt: skip
        context = RunContext(
            config=configs[1], models=tuple(configs[1:]), resolved={}, run_dir=self.folder, command="x",
            reference=configs[0], plans=tuple(map(BenchmarkPlan.of, configs[1:])),
        )  # fmt: skip
        return run_with(context, locate=self._locate, load=self._load_table)

    def _locate(self, config: RunConfig) -> ModelSpec:
        spec = super()._locate(config)
        return msgspec.structs.replace(spec, format="gguf")

    async def _load_table(self, spec: ModelSpec, on_progress: Callable[[float], None] | None) -> BigramEngine:
        self.loaded.append(spec.name)
        logits = table() + (0 if spec.name == "ref" else 0.3) * table(seed=1)
        return self.kind(logits, format="openai" if spec.name == "far" else "gguf")


@pytest.fixture
def fidelity(tmp_path: Path) -> Fidelity:
    bench = Fidelity(tmp_path)
    bench.mode = BenchmarkMode(concurrency=[1], requests=1, warmup=0, heuristic=False)
    return bench


def test_fidelity_to_a_reference_is_in_results_table_and_reports(
    fidelity: Fidelity, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fidelity.run_against("ref", "a", "far") == 0
    assert fidelity.loaded == ["ref", "a", "far"]
    near, far = fidelity.results.models
    quality = near.quality
    assert quality.kld is not None
    assert (quality.kld.mean or 0) > 0.01
    assert quality.reference is not None
    assert quality.reference.positions == 512
    assert quality.divergence is not None
    assert far.quality.kld is None
    assert far.notes == [
        "of fidelity only decisions are measured: an endpoint does not give full distributions"
    ]
    assert quality.decisions is not None
    assert quality.decisions == far.quality.decisions, "the same table"
    assert quality.decisions.flip_rate > 0
    shown = capsys.readouterr().out
    assert "top-1" in shown
    assert "flips" in shown
    assert "Reference ref" in shown
    for report in ("report.md", "report.html"):
        assert "KL divergence from the reference" in (fidelity.folder / report).read_text()
    metrics = model_metrics(near)
    assert metrics["quality/kld.mean"] == quality.kld.mean
    assert metrics["quality/reference.perplexity"] == quality.reference.perplexity
    assert metrics["quality/top1_agreement_se"] > 0
    assert metrics["quality/decisions.flip_rate"] == quality.decisions.flip_rate
    assert metrics["quality/decisions.own.brier"] > 0


def test_fidelity_can_be_left_out(fidelity: Fidelity) -> None:
    assert fidelity.run_against("ref", "a", enabled=False) == 0
    assert fidelity.loaded == ["a"]
    assert fidelity.results.models[0].quality.kld is None


def test_without_its_reference_nothing_is_measured(fidelity: Fidelity) -> None:
    fidelity.missing.add("ref")
    with pytest.raises(ModelNotFoundError, match="no weights for ref"):
        fidelity.run_against("ref", "a")
    assert fidelity.loaded == []
    assert "no weights for ref" in str(fidelity.results.run.reason)


def test_an_interrupt_while_the_reference_runs_leaves_no_half_of_it(fidelity: Fidelity) -> None:
    class Interrupted(BigramEngine):
        async def score_window(self, window: Window) -> WindowScore:
            if window.index == 1:
                signal.raise_signal(signal.SIGINT)
                await asyncio.sleep(0)  # where the cancellation arrives
            return await super().score_window(window)

    fidelity.kind = Interrupted
    assert fidelity.run_against("ref", "a") == 130
    assert fidelity.loaded == ["ref"]
    assert (fidelity.results.run.status, fidelity.results.run.reason) == ("partial", "interrupted")
    assert list((fidelity.folder / "cache").iterdir()) == []
    fidelity.kind = BigramEngine
    assert fidelity.run_against("ref", "a") == 0
