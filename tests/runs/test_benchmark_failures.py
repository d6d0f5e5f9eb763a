"""mode=benchmark when something goes wrong: what is said, and what is left on disk all the same."""

from __future__ import annotations

import json
import re
import resource
import signal
from typing import Any

import pytest

from lqmf_runner.config import BenchmarkMode, ObjectivesConfig, RampConfig, TrackingConfig
from lqmf_runner.errors import DoesNotFitError, EngineError, EngineLostError, UserInputError
from lqmf_runner.results.files import read_requests
from lqmf_runner.types import GenerationRequest, Score
from tests.support.engine.scripted import Fail, Say
from tests.support.engine.toy import ToyModel
from tests.support.runs.bench import Bench, answer


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
