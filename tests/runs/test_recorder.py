"""The recorder of a run: what is told to it is in `results.json` at once, and stays there whatever happens next."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from lqmf_runner.errors import DoesNotFitError
from lqmf_runner.load.metrics import load_result
from lqmf_runner.results.files import read_results
from lqmf_runner.results.quality import HeuristicScore, KldSummary, Quality
from lqmf_runner.results.schema import LoadResult, RampResult, Results, RunRecord, Shape, SystemInfo
from lqmf_runner.runs.recorder import ModelRecorder, RunRecorder
from lqmf_runner.types import MemoryUse, ModelSpec
from tests.support.engine.scripted import INFO

SPEC = ModelSpec(name="a", format="gguf", path="", version="v1")
MEMORY = MemoryUse(rss_mb=100.0, peak_rss_mb=120.0)
HEURISTIC = Quality(heuristic=HeuristicScore(score=0.9), heuristic_se=0.1)
FIDELITY = Quality(kld=KldSummary(mean=0.02), top1_agreement=0.0)


def load(users: int, *, partial: bool = False) -> LoadResult:
    return load_result(Shape(kind="closed", concurrency=users), [], 1.0, partial=partial)


@pytest.fixture
def recorder(tmp_path: Path) -> RunRecorder:
    run = RunRecord(id="1", mode="benchmark", name="a", started_at="now", command="x", reason="running")
    system = SystemInfo(cpu="c", cores=2, ram_mb=1.0, os="o", python="3")
    return RunRecorder(Results(run=run, system=system), tmp_path)


@pytest.fixture
def model(recorder: RunRecorder) -> ModelRecorder:
    model = recorder.model("a")
    model.located(SPEC)
    model.loaded(INFO, SPEC, 1.5)
    return model


def test_each_figure_is_on_disk_at_once(recorder: RunRecorder, model: ModelRecorder, tmp_path: Path) -> None:
    model.memory(MEMORY)
    model.load(load(1), HEURISTIC)
    (kept,) = read_results(tmp_path).models
    assert (kept.name, kept.load_time_s, kept.memory) == ("a", 1.5, MEMORY)
    assert (kept.loads, kept.quality) == ([load(1)], HEURISTIC)
    model.ramp(RampResult(2.0, 3.0))
    assert read_results(tmp_path).models[0].ramp == RampResult(2.0, 3.0)
    model.quality(FIDELITY)
    assert read_results(tmp_path).models[0].quality.kld == FIDELITY.kld
    model.note("mind this")
    assert "mind this" in read_results(tmp_path).models[0].notes
    assert (read_results(tmp_path).run.status, read_results(tmp_path).run.reason) == ("partial", "running")


def test_a_load_takes_the_place_of_one_of_the_same_shape(model: ModelRecorder) -> None:
    for measured in (load(1, partial=True), load(4), load(1)):
        model.load(measured, Quality())
    assert model.result.loads == [load(1), load(4)]


def test_figures_of_quality_add_up(model: ModelRecorder) -> None:
    for found in (HEURISTIC, Quality(tasks={"t": {"acc": 1.0}}), FIDELITY, Quality(heuristic_se=0.2)):
        model.quality(found)
    assert model.result.quality == Quality(
        heuristic=HEURISTIC.heuristic, heuristic_se=0.2, kld=FIDELITY.kld, top1_agreement=0.0,
        tasks={"t": {"acc": 1.0}},
    )  # fmt: skip


def test_an_endpoint_that_knows_nothing_of_its_model_leaves_nulls(recorder: RunRecorder) -> None:
    model = recorder.model("far")
    bare = msgspec.structs.replace(INFO, method="", bits=0, parameters=0, size_mb=0, version="", notes=["n"])
    model.loaded(bare, msgspec.structs.replace(SPEC, version="of the spec"), 0.1)
    known = model.result
    assert (known.method, known.bits, known.parameters, known.size_mb) == (None, None, None, None)
    assert (known.version, known.notes) == ("of the spec", ["n"])


def test_a_failure_keeps_what_was_measured(
    recorder: RunRecorder, model: ModelRecorder, tmp_path: Path
) -> None:
    model.load(load(1), HEURISTIC)
    error = DoesNotFitError("a needs 90 GB")
    model.failed(error)
    second = recorder.model("b")
    second.load(load(1), Quality())
    recorder.measured()
    recorder.save()
    first, other = read_results(tmp_path).models
    assert (first.error, first.loads) == ("DoesNotFitError: a needs 90 GB", [load(1)])
    assert (other.error, other.loads) == (None, [load(1)])
    assert read_results(tmp_path).run.reason == "a: DoesNotFitError: a needs 90 GB"
    assert (recorder.errors, model.ended_early, second.ended_early) == ([error], True, False)


def test_an_interrupt_keeps_what_was_measured(
    recorder: RunRecorder, model: ModelRecorder, tmp_path: Path
) -> None:
    model.load(load(1, partial=True), HEURISTIC)
    model.interrupted()
    recorder.interrupted()
    results = read_results(tmp_path)
    assert (results.run.reason, results.run.status) == ("interrupted", "partial")
    assert results.run.finished_at is not None
    assert (results.models[0].error, results.models[0].loads) == ("interrupted", [load(1, partial=True)])
    assert recorder.errors == [], "the user is not an error"


def test_a_run_in_which_all_went_well_has_no_reason(recorder: RunRecorder, model: ModelRecorder) -> None:
    model.load(load(1), Quality())
    recorder.measured()
    assert recorder.results.run.reason is None
    recorder.measured(OSError(28, "No space left on device"))
    assert "requests.jsonl could not be written" in str(recorder.results.run.reason)


def test_a_run_that_is_refused_says_why(recorder: RunRecorder, tmp_path: Path) -> None:
    recorder.refused("reference r: no weights")
    results = read_results(tmp_path)
    assert (results.run.reason, results.models) == ("reference r: no weights", [])
    assert results.run.finished_at is not None


def test_a_full_disk_does_not_stop_the_recording(model: ModelRecorder, tmp_path: Path) -> None:
    blocked = tmp_path / ".results.json.part"
    blocked.mkdir()
    (blocked / "x").touch()
    model.load(load(1), HEURISTIC)
    assert not (tmp_path / "results.json").exists()
    (blocked / "x").unlink()
    blocked.rmdir()
    model.load(load(4), HEURISTIC)
    assert read_results(tmp_path).models[0].loads == [load(1), load(4)]
