"""mode=benchmark with scripted engines: what is left on disk when all goes well, and when it does not."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from lqmf_runner.config import BenchmarkMode, ObjectivesConfig, RampConfig, SyntheticConfig
from lqmf_runner.results.files import read_requests
from lqmf_runner.results.schema import RampResult
from lqmf_runner.types import EngineStats, ModelSpec
from tests.support.engine.scripted import ScriptedEngine, WordTokens
from tests.support.engine.toy import ToyModel
from tests.support.runs.bench import PROMPTS, QUESTION, Bench


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
    for user in (
        0,
        1,
    ):  # the time is looked at before a request is sent, so the last one may be sent a moment late
        sent = [r.sent_s for r in read_requests(bench.folder) if r.user == user]
        assert all(at < 0.05 for at in sent[:-1])
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


@pytest.mark.parametrize(("asked", "loaded"), [(None, 0), (512, 512)])
def test_prompts_in_main_memory_do_not_count_as_the_model(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, asked: int | None, loaded: int
) -> None:
    monkeypatch.setattr("lqmf_runner.runs.benchmark.memory_bandwidth_gb_s", lambda: 10.0)
    monkeypatch.setattr(
        bench,
        "_locate",
        lambda _: ModelSpec(name="a", format="gguf", path="", options={"prompt_cache_mb": asked}),
    )
    specs: list[ModelSpec] = []
    load = bench._load

    async def remember(spec: ModelSpec, on_progress: Callable[[float], None] | None) -> ScriptedEngine:
        specs.append(spec)
        return await load(spec, on_progress)

    monkeypatch.setattr(bench, "_load", remember)
    assert bench.run("a") == 0
    assert [spec.options["prompt_cache_mb"] for spec in specs] == [loaded]
