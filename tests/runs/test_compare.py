"""mode=compare with scripted engines: the verdict over what is there, whatever has failed."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from lqmf_runner.config import CompareMode, ModelConfig, RunConfig, VerdictConfig
from lqmf_runner.errors import DoesNotFitError, UserInputError
from lqmf_runner.load.plan import BenchmarkPlan
from lqmf_runner.results.files import read_requests
from lqmf_runner.runs.compare import run_with
from lqmf_runner.runs.context import RunContext
from lqmf_runner.types import EngineStats, GenerationRequest
from tests.conftest import Run
from tests.support.engine.scripted import Fail, Say
from tests.support.runs.bench import PROMPTS, Bench, Script, answer


class Comparison(Bench):
    """A comparison in a folder of its own; engines are made by script."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.verdict = VerdictConfig()
        self.mode = CompareMode(concurrency=[1, 3], requests=6)

    def run(self, *models: str) -> int:
        configs = tuple(
            RunConfig(
                model=ModelConfig(name=name), prompts=PROMPTS, mode=self.mode,
                tracking=self.tracking, verdict=self.verdict,
            )
            for name in models
        )  # fmt: skip
        context = RunContext(
            config=configs[0],
            models=configs,
            resolved={},
            run_dir=self.folder,
            command="python -m lqmf_runner",
            plans=tuple(map(BenchmarkPlan.of, configs)),
        )
        return run_with(context, locate=self._locate, load=self._load)


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    return Comparison(tmp_path)


def slow(_: int, __: GenerationRequest) -> Sequence[Say | Fail]:
    return [Say(0.02, "The capital of France"), Say(0.02, " is Paris.", 3)]


def test_the_verdict_is_printed_stored_and_reported(
    comparison: Comparison, capsys: pytest.CaptureFixture[str]
) -> None:
    comparison.scripts["b"] = slow
    assert comparison.run("b", "a") == 0
    results = comparison.results
    assert results.run.mode == "compare"
    verdict = results.verdict
    assert verdict is not None
    assert (verdict.winner, verdict.concurrency) == ("a", 1)
    assert [m.name for m in verdict.models] == ["a", "b"]
    shown = capsys.readouterr()
    assert "lqmf · compare · 2 models" in shown.err
    assert "Verdict: a." in shown.out
    assert "it is better in nothing that was measured" in shown.out
    assert "Fidelity was not measured" in shown.out
    for name in ("report.md", "report.html"):
        text = (comparison.folder / name).read_text()
        assert text.index(verdict.headline) < text.index("tok/s @1")


def test_a_model_that_fails_is_named_and_the_verdict_is_over_the_rest(
    comparison: Comparison, capsys: pytest.CaptureFixture[str]
) -> None:
    comparison.scripts |= {"b": DoesNotFitError("b needs 90 GB"), "c": slow}
    assert comparison.run("c", "b", "a") == 1
    verdict = comparison.results.verdict
    assert verdict is not None
    assert verdict.winner == "a"
    assert [(m.name, m.rank) for m in verdict.models] == [("a", 1), ("c", 2), ("b", None)]
    assert verdict.cautions[0] == "b failed and is not judged: DoesNotFitError: b needs 90 GB"
    assert "b failed and is not judged" in capsys.readouterr().out


def test_none_qualifies(comparison: Comparison, capsys: pytest.CaptureFixture[str]) -> None:
    comparison.verdict = VerdictConfig(max_memory_mb=100)
    assert comparison.run("a", "b") == 0
    assert comparison.results.verdict is not None
    assert comparison.results.verdict.winner is None
    shown = capsys.readouterr().out
    assert "none qualifies; nearest is" in shown
    assert "memory 200 MB (at most 100 MB)" in shown


def test_ctrl_c_leaves_a_verdict_over_the_models_that_were_done(comparison: Comparison) -> None:
    def interrupt(number: int, request: GenerationRequest) -> Sequence[Say | Fail]:
        if number == 5:
            signal.raise_signal(signal.SIGINT)
        return answer(number, request)

    comparison.scripts["b"] = interrupt
    assert comparison.run("a", "b", "c") == 130
    results = comparison.results
    assert (results.run.status, results.run.reason) == ("partial", "interrupted")
    assert results.verdict is not None
    assert [(m.name, m.error) for m in results.verdict.models] == [("a", None), ("b", "interrupted")]
    assert results.verdict.cautions[0] == "b was interrupted and is not judged"
    assert results.verdict.winner == "a"
    assert all(engine.closed for engine in comparison.engines)
    assert {p.name for p in comparison.folder.iterdir()} >= {"results.json", "requests.jsonl", "report.html"}


def test_a_refused_comparison_leaves_nothing_behind(run_program: Run, tmp_path: Path) -> None:
    result = run_program("mode=compare", "models=[smollm2_gguf]", "verdict.max_kld=0.1")
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "error: verdict.max_kld bounds what this run does not measure",
        "hint: name the unquantized model: reference=<model>",
    ]
    assert list(tmp_path.iterdir()) == []


def test_models_take_turns_when_interleaved(comparison: Comparison) -> None:
    """a b a b a b: every turn has a worker of its own, and the repeats end up in one load with an interval."""
    order: list[str] = []

    def noted(name: str) -> Script:
        def script(number: int, request: GenerationRequest) -> Sequence[Say | Fail]:
            if order[-1:] != [name]:
                order.append(name)
            return answer(number, request)

        return script

    comparison.scripts |= {"a": noted("a"), "b": noted("b"), "broken": DoesNotFitError("too big")}
    comparison.mode = CompareMode(concurrency=[1, 3], requests=6, warmup=1, repeats=3, interleave=True)
    comparison.stats = [
        reading
        for _ in range(6 * 2)
        for reading in (EngineStats(), EngineStats(prefill_tokens=60, prefill_s=0.1))
    ]
    assert comparison.run("a", "broken", "b") == 1
    assert order == ["a", "b"] * 3
    assert len(comparison.engines) == 6
    results = comparison.results
    assert [len(m.loads) for m in results.models] == [2, 0, 2]
    load = results.models[0].loads[1]
    assert (load.requests, load.repeats["output_tokens_per_s"].n) == (18, 3)
    assert load.prefill_tokens_per_s == pytest.approx(600)
    records = [r for r in read_requests(comparison.folder) if (r.model, r.load) == ("b", "c3")]
    assert sorted(r.repeat for r in records) == [0] * 6 + [1] * 6 + [2] * 6
    assert results.verdict is not None
    assert results.verdict.models[-1].name == "broken"


def test_interleaving_without_repeats_is_refused(comparison: Comparison) -> None:
    comparison.mode = CompareMode(interleave=True)
    with pytest.raises(UserInputError, match="nothing to interleave"):
        comparison.run("a", "b")
