"""mode=benchmark with scripted engines: what is left on disk when all goes well, and when it does not."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import resource
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lqmf_runner.config import (
    BenchmarkMode,
    FidelityConfig,
    ModelConfig,
    ObjectivesConfig,
    Prompt,
    PromptsConfig,
    RampConfig,
    RunConfig,
    SyntheticConfig,
    TrackingConfig,
)
from lqmf_runner.errors import (
    DoesNotFitError,
    EngineError,
    EngineLostError,
    ModelNotFoundError,
    UserInputError,
)
from lqmf_runner.load.plan import BenchmarkPlan
from lqmf_runner.results.files import read_requests, read_results
from lqmf_runner.results.schema import RampResult, Results
from lqmf_runner.runs.benchmark import run_with
from lqmf_runner.runs.context import RunContext
from lqmf_runner.tracking.values import model_metrics
from lqmf_runner.types import EngineStats, GenerationRequest, ModelSpec, Score, Window, WindowScore
from tests.support.bigram import BigramEngine, table
from tests.support.scripted import Fail, Say, ScriptedEngine, WordTokens
from tests.support.toy import ToyModel

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


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_whole_run(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.stats = [
        EngineStats(),
        EngineStats(prefill_tokens=60, prefill_s=0.1, decode_tokens=100, decode_steps=100, decode_s=0.5),
    ]
    assert bench.run("a", "b") == 0
    results = bench.results
    assert (results.run.status, results.run.reason, results.run.name) == ("complete", None, "a+b")
    assert results.run.finished_at is not None
    assert [m.name for m in results.models] == ["a", "b"]
    first = results.models[0]
    assert [(load.shape.concurrency, load.requests) for load in first.loads] == [(1, 6), (3, 6)]
    assert [load.success_rate for load in first.loads] == [1.0, 1.0]
    assert first.loads[0].prefill_tokens_per_s == pytest.approx(600)
    assert first.loads[0].decode_tokens_per_s == pytest.approx(200)
    assert first.loads[0].bandwidth_utilisation is None  # nothing was measured for an endpoint
    assert first.loads[1].decode_tokens_per_s is None
    assert first.memory is not None
    assert first.quality.heuristic is not None
    assert first.quality.heuristic.score > 0.9
    records = read_requests(bench.folder)
    assert len(records) == 24  # warm-up is not among them
    assert len(bench.engines[0].requests) == 2 + 12
    assert {(r.model, r.load) for r in records} == {("a", "c1"), ("a", "c3"), ("b", "c1"), ("b", "c3")}
    assert all(engine.closed for engine in bench.engines)
    text = capsys.readouterr().out
    assert "heuristic" in text
    assert "report.html" in text


def test_all_kinds_of_load_in_one_run(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.mode = BenchmarkMode(
        concurrency=[2], rate=[200.0], arrival="constant", requests=4, repeats=3, warmup=1,
        ramp=RampConfig(start=400.0, max_rate=500.0, step_s=0.02), objectives=ObjectivesConfig(ttft_s=10.0),
    )  # fmt: skip
    assert bench.run("a") == 0
    model = bench.results.models[0]
    kinds = [load.shape.kind for load in model.loads]
    assert kinds[:3] == ["closed", "constant", "ramp"]
    assert len(kinds) <= 6
    assert [load.requests for load in model.loads][:2] == [12, 12]
    for load in model.loads[:2]:
        assert load.repeats["output_tokens_per_s"].n == 3
        assert load.repeats["goodput_rps"].ci95 > 0
    assert model.loads[2].repeats == {}
    assert model.ramp is not None
    assert model.ramp != RampResult()
    records = read_requests(bench.folder)
    assert [sum(r.repeat == n for r in records if r.load == "c2") for n in range(3)] == [4, 4, 4]
    assert all((r.due_s is None) == (r.load == "c2") for r in records)
    assert {r.prompt for r in records} == {QUESTION}
    per_repeat = []
    for n in range(3):  # the estimate is over the repeats' own rates
        mine = [r for r in records if (r.load, r.repeat) == ("c2", n)]
        per_repeat.append(len(mine) / max(r.sent_s + (r.e2e_s or 0) for r in mine))
    assert model.loads[0].repeats["requests_per_s"].mean == pytest.approx(sum(per_repeat) / 3, rel=0.05)
    shown = capsys.readouterr().out
    for head in ("±", "sustained", "goodput", "constant 200/s"):
        assert head in shown


def test_a_duration_ends_a_closed_loop(bench: Bench) -> None:
    bench.mode = BenchmarkMode(concurrency=[2], duration_s=0.05, warmup=0)
    assert bench.run("a") == 0
    (load,) = bench.results.models[0].loads
    assert load.duration_s >= 0.05
    assert all(r.sent_s < 0.05 for r in read_requests(bench.folder))
    assert load.requests > len(PROMPTS.entries)  # the prompt set is repeated


def test_tasks_come_after_the_loads(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.engine = lambda *_, **__: ToyModel()  # type: ignore[assignment, return-value]
    bench.mode = BenchmarkMode(
        concurrency=[1], requests=2, warmup=0, tasks=["lqmf_everyday", "lqmf_opposites"], tasks_limit=3
    )
    assert bench.run("a") == 0
    model = bench.results.models[0]
    assert {name: found["n"] for name, found in model.quality.tasks.items()} == {
        "lqmf_everyday": 3, "lqmf_opposites": 3,
    }  # fmt: skip
    assert model.loads[0].succeeded == 2
    shown = capsys.readouterr()
    assert "exact_match" in shown.out
    assert "generate_until" in shown.err
    assert "it/s" not in shown.err  # the harness's own bars


def test_an_interrupt_during_tasks_keeps_the_loads_and_ends(bench: Bench) -> None:
    class Interrupts(ToyModel):
        interrupted = False

        async def score(self, tokens: Any) -> Score:
            if not self.interrupted:
                self.interrupted = True
                signal.raise_signal(signal.SIGINT)
            return await super().score(tokens)

    bench.engine = lambda *_, **__: Interrupts()  # type: ignore[assignment, return-value]
    bench.mode = BenchmarkMode(concurrency=[1], requests=2, warmup=0, tasks=["lqmf_everyday"], tasks_limit=3)
    assert bench.run("a") == 130
    model = bench.results.models[0]
    assert [load.partial for load in model.loads] == [False]
    assert (model.error, model.quality.tasks) == ("interrupted", {})


def test_a_task_that_is_wrong_is_told_before_a_model_is_loaded(bench: Bench) -> None:
    bench.mode = BenchmarkMode(concurrency=[1], tasks=["nowhere.yaml"])
    with pytest.raises(UserInputError, match="no task file"):
        bench.run("a")
    assert not bench.engines


def test_a_load_in_which_nothing_arrives_is_named(bench: Bench) -> None:
    bench.mode = BenchmarkMode(concurrency=[], rate=[0.001], duration_s=0.01)
    with pytest.raises(EngineError, match="no request arrived"):
        bench.run("a")
    bench.mode = BenchmarkMode(concurrency=[1], rate=[0.001], duration_s=0.01)
    assert bench.run("a") == 0
    assert bench.results.models[0].notes[:1] == ["poisson0.001: no request arrived before it was over"]


def test_a_run_in_the_folder_of_another_takes_its_place(bench: Bench) -> None:
    bench.mode = BenchmarkMode(concurrency=[1], requests=3)
    for _ in range(2):
        assert bench.run("a") == 0
        assert len(read_requests(bench.folder)) == 3


def test_synthetic_requests_are_not_scored(bench: Bench) -> None:
    bench.engine = WordTokens
    bench.mode = BenchmarkMode(
        concurrency=[1], requests=3, synthetic=SyntheticConfig(prompt_tokens=12, output_tokens=4)
    )
    assert bench.run("a") == 0
    assert bench.results.models[0].quality.heuristic is None
    assert {request.sampling.max_tokens for request in bench.engines[0].requests} == {4}


def test_results_json_has_the_documented_shape(bench: Bench) -> None:
    bench.mode = BenchmarkMode(concurrency=[2], requests=4, objectives=ObjectivesConfig(ttft_s=10.0))
    bench.run("a")
    raw = (bench.folder / "results.json").read_text()
    assert "NaN" not in raw
    got = json.loads(raw)
    assert got["schema_version"] == 1
    run = "id mode name started_at finished_at git_commit mlflow_run_id command status"
    assert set(run.split()) <= set(got["run"])
    assert {"cpu", "cores", "ram_mb", "gpus", "os", "python", "packages", "memory_bandwidth_gb_s"} == set(
        got["system"]
    )
    (model,) = got["models"]
    known = "name format bits bits_per_weight version size_mb parameters load_time_s memory loads quality"
    assert set(known.split()) <= set(model)
    assert set(model["memory"]) == {"rss_mb", "peak_rss_mb", "gpu_mb", "peak_gpu_mb"}
    (load,) = model["loads"]
    assert load["shape"] == {"kind": "closed", "concurrency": 2}
    for name in ("ttft_s", "itl_s", "tpot_s", "e2e_s"):
        assert set(load[name]) == {"mean", "std", "p50", "p90", "p95", "p99"}
    measured = (
        "requests succeeded success_rate duration_s output_tokens_per_s total_tokens_per_s requests_per_s "
        "prefill_tokens_per_s decode_tokens_per_s bandwidth_utilisation goodput_rps"
    )
    assert set(measured.split()) <= set(load)
    assert load["goodput_rps"] == load["requests_per_s"]
    promised = {"heuristic", "perplexity", "kld", "top1_agreement", "tasks"}
    assert promised <= set(model["quality"])
    assert [name for name, value in model["quality"].items() if value] == ["heuristic"], (
        "no reference was given"
    )


def test_one_model_that_fails_does_not_stop_the_others(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.scripts["b"] = DoesNotFitError("b needs 90 GB", hint="choose a smaller one")
    bench.missing.add("c")
    assert bench.run("a", "b", "c", "d") == 1
    results = bench.results
    assert results.run.status == "partial"
    assert [len(m.loads) for m in results.models] == [2, 0, 0, 2]
    assert results.models[1].error == "DoesNotFitError: b needs 90 GB"
    assert "no weights for c" in str(results.run.reason)
    errors = capsys.readouterr().err
    assert "b needs 90 GB" in errors
    assert "choose a smaller one" in errors


def test_the_only_model_failing_to_load_is_raised_and_recorded(bench: Bench) -> None:
    bench.scripts["a"] = DoesNotFitError("a needs 90 GB")
    with pytest.raises(DoesNotFitError):
        bench.run("a")
    assert bench.results.run.status == "partial"
    assert bench.results.models[0].error == "DoesNotFitError: a needs 90 GB"


def test_a_lost_engine_keeps_what_was_measured(bench: Bench) -> None:
    def dies_in_the_second_load(number: int, request: GenerationRequest) -> list[Say | Fail]:
        return answer(number, request) if number < 10 else [Fail(0.0, EngineLostError("killed"))]

    bench.scripts["a"] = dies_in_the_second_load
    assert bench.run("a", "b") == 1
    model = bench.results.models[0]
    assert [load.partial for load in model.loads] == [False, True]
    assert model.loads[1].succeeded == 2
    assert model.error == "EngineLostError: killed"
    assert len(bench.results.models[1].loads) == 2


@pytest.mark.parametrize("request_number", [0, 1, 5, 12])
def test_an_interrupt_keeps_what_was_done(bench: Bench, request_number: int) -> None:
    """Ctrl-C in the warm-up, in the first load and in the second one."""

    def interrupt(number: int, request: GenerationRequest) -> list[Say | Fail]:
        if number == request_number:
            signal.raise_signal(signal.SIGINT)
        return answer(number, request)

    bench.scripts["a"] = interrupt
    assert bench.run("a", "b") == 130
    results = bench.results
    assert (results.run.status, results.run.reason) == ("partial", "interrupted")
    assert [m.name for m in results.models] == ["a"]
    assert [e.closed for e in bench.engines] == [True]
    kept = sum(load.requests for load in results.models[0].loads)
    assert kept == len(read_requests(bench.folder))
    in_flight = 2 if request_number > 8 else 0  # the second load has three users
    assert request_number - 2 - in_flight <= kept <= max(0, request_number - 2)
    partial = {0: [], 1: [], 5: [True], 12: [False, True]}[request_number]
    assert [load.partial for load in results.models[0].loads] == partial
    assert (bench.folder / "report.html").exists()
    assert "interrupted" in (bench.folder / "report.md").read_text()


def test_failed_requests_are_counted_and_listed(bench: Bench) -> None:
    def sometimes(number: int, request: GenerationRequest) -> list[Say | Fail]:
        return (
            [Fail(0.0, UserInputError("the prompt has 9000 tokens"))]
            if number % 2
            else answer(number, request)
        )

    bench.scripts["a"] = sometimes
    bench.run("a")
    assert bench.results.models[0].loads[0].success_rate == 0.5
    assert "the prompt has 9000 tokens" in (bench.folder / "report.md").read_text()


def test_a_model_of_which_no_request_succeeds_has_failed(bench: Bench) -> None:
    bench.scripts["a"] = lambda *_: [Fail(0.0, UserInputError("the prompt has 9000 tokens"))]
    with pytest.raises(EngineError, match=r"none of 12 requests succeeded; the first: .*9000 tokens"):
        bench.run("a")
    assert bench.results.run.status == "partial"
    assert len(read_requests(bench.folder)) == 12


def test_a_full_disk_does_not_stop_the_measurement(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        code = bench.run("a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1
    shown = capsys.readouterr()
    assert "heuristic" in shown.out  # the table is there all the same
    assert "requests.jsonl is not complete" in shown.err
    assert "results.json could not be written" in shown.err
    assert "once that is mended: run it again" in shown.err
    assert not [path for path in bench.folder.iterdir() if not path.stat().st_size]  # no empty reports
    for line in (bench.folder / "requests.jsonl").read_text().splitlines():
        json.loads(line)


def test_a_tracking_server_that_is_down_costs_one_line(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.tracking = TrackingConfig(uri="http://127.0.0.1:1")
    assert bench.run("a") == 0
    assert bench.results.run.status == "complete"
    assert bench.results.run.mlflow_run_id is None
    lines = [line for line in capsys.readouterr().err.splitlines() if "MLflow" in line]
    assert len(lines) == 1
    assert re.search(
        r"send it later: python -m lqmf_runner\.tracking \S+ --uri http://127\.0\.0\.1:1$", lines[0]
    )


@pytest.mark.parametrize(
    ("mode", "what"),
    [
        (BenchmarkMode(concurrency=[]), "concurrency is empty"),
        (BenchmarkMode(concurrency=[0]), "concurrency=0"),
        (BenchmarkMode(concurrency=[2, 2]), "twice"),
        (BenchmarkMode(requests=0), "requests=0"),
        (BenchmarkMode(warmup=-1), "warmup=-1"),
        (BenchmarkMode(repeats=0), "repeats=0"),
        (BenchmarkMode(rate=[0.0]), "rate=0"),
        (BenchmarkMode(rate=[2.0, 2.0]), "twice"),
        (BenchmarkMode(duration_s=0.0), "duration_s=0"),
        (BenchmarkMode(duration_s=5.0, requests=3), "contradict"),
        (BenchmarkMode(ramp=RampConfig(start=-1.0)), "ramp.start"),
    ],
)
def test_settings_that_cannot_be_run_are_refused_before_a_load(
    bench: Bench, mode: BenchmarkMode, what: str
) -> None:
    bench.mode = mode
    with pytest.raises(UserInputError, match=what):
        bench.run("a")
    assert not bench.engines


@pytest.mark.parametrize("bound", [-0.1, float("nan")])
def test_objectives_that_nothing_can_meet_are_refused(bound: float) -> None:
    with pytest.raises(UserInputError, match=r"mode.objectives.ttft_s=.* is out of range"):
        ObjectivesConfig(ttft_s=bound)


def test_results_agree_with_the_requests_they_are_made_of(bench: Bench) -> None:
    """Metrics recomputed from requests.jsonl by other means agree with results.json."""
    import numpy as np

    bench.run("a")
    load = bench.results.models[0].loads[1]
    records = [r for r in read_requests(bench.folder) if r.load == "c3"]
    ttft = [r.ttft_s for r in records if r.ttft_s is not None]
    gaps = [gap for r in records for gap in r.itl_s]
    assert load.ttft_s.p90 == pytest.approx(np.percentile(ttft, 90))
    assert load.itl_s.p99 == pytest.approx(np.percentile(gaps, 99))
    assert load.e2e_s.std == pytest.approx(np.std([r.e2e_s for r in records if r.e2e_s is not None]))
    end = max(r.sent_s + (r.e2e_s or 0) for r in records)
    assert load.duration_s == pytest.approx(end, abs=2e-3)
    assert load.output_tokens_per_s == pytest.approx(sum(r.output_tokens for r in records) / load.duration_s)


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
