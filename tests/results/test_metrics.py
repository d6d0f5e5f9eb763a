"""The table of metrics: it is true of the results, of the settings and of the documentation, and it can grow."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from lqmf_runner.config import VerdictConfig
from lqmf_runner.errors import UserInputError
from lqmf_runner.results.metrics import METRICS, NOISE_Z, Metric, bounds, tracked_metric
from lqmf_runner.results.quality import KldSummary, NoiseFloor, Quality, ReferenceFigures
from lqmf_runner.results.schema import LoadResult, ModelResult
from lqmf_runner.tracking.values import model_metrics
from lqmf_runner.verdict.candidates import candidate
from tests.support.runs.sample import sample_model

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
ALL = pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))


def share(value: float | None) -> str:
    return "" if not value else f"{value * 100:g} %"


def row(metric: Metric) -> str:
    """The metric's line in docs/metrics.md."""
    cells = (
        metric.key,
        f"`{'loads[].' if metric.of_load else ''}{metric.path}`",
        metric.label,
        "more" if metric.higher else "less",
        share(metric.noise),
        share(metric.tolerance),
        f"`{metric.bound}`" if metric.bound else "",
    )
    return f"| {' | '.join(cells)} |"


def test_the_documentation_has_the_table() -> None:
    table = "\n".join(map(row, METRICS.values()))
    assert table in DOCUMENT.read_text("utf-8"), f"put this into {DOCUMENT.name}:\n{table}"


def test_every_bound_of_the_verdict_is_tied_to_a_metric_and_its_direction() -> None:
    fields = {f.name for f in dataclasses.fields(VerdictConfig)} - {"concurrency", "weights"}
    assert fields == set(bounds())
    for name, metric in bounds().items():
        assert name == ("min_" if metric.higher else "max_") + metric.key
        assert getattr(VerdictConfig(), name) is None


@pytest.mark.parametrize(("name", "metric"), bounds().items(), ids=list(bounds()))
def test_a_bound_is_held_to_its_limits(name: str, metric: Metric) -> None:
    assert metric.limits is not None
    low, high = metric.limits
    never_zero = low == 0 and not metric.zero
    least = 0.1 if never_zero else low
    assert VerdictConfig(**{name: least}).bounds == {name: least}
    if never_zero:
        with pytest.raises(UserInputError, match=rf"verdict\.{name}=0 is too small"):
            VerdictConfig(**{name: low})
    for wrong in (low - 0.1, math.nan, *([] if high is None else [high + 0.1])):
        with pytest.raises(UserInputError, match=rf"verdict\.{name}=.* is out of range"):
            VerdictConfig(**{name: wrong})


@ALL
def test_a_path_leads_to_a_number_of_the_results(metric: Metric) -> None:
    kind: object = LoadResult if metric.of_load else ModelResult
    for name in metric.path.split("."):
        fields = {f.name: f.type for f in msgspec.structs.fields(kind)}  # type: ignore[arg-type]
        alternatives = getattr(fields[name], "__args__", (fields[name],))
        kind = next(each for each in alternatives if each is not type(None))
    assert kind is float


@ALL
def test_mlflow_has_the_metric_under_its_tracked_name(metric: Metric) -> None:
    model = sample_model("m", users=(8,))
    if metric.read(model.loads[0] if metric.of_load else model) is not None:
        name = f"c8/{metric.tracked}" if metric.of_load else metric.tracked
        assert name in model_metrics(model)
        assert tracked_metric(name) is (None if metric.tolerance is None else metric)


def test_what_was_not_measured_is_not_a_figure() -> None:
    assert METRICS["memory_mb"].read(ModelResult(name="m")) is None
    assert METRICS["size_mb"].read(ModelResult(name="m", size_mb=0.0)) is None
    assert METRICS["size_mb"].read(ModelResult(name="m", size_mb=math.nan)) is None
    assert METRICS["top1"].read(ModelResult(name="m", quality=Quality(top1_agreement=0.0))) == 0


def test_the_noise_floor_is_part_of_the_error_of_the_divergence() -> None:
    floor = NoiseFloor(dtype="bfloat16", kld=KldSummary(0.0196), top1_agreement=0.99, positions=2048)
    reference = ReferenceFigures(
        name="r", version="v", dtype="float32", perplexity=10.0, text="t", text_digest="d", tokens=512,
        windows=1, positions=256, noise_floor=floor,
    )  # fmt: skip
    measured = Quality(kld=KldSummary(0.1, mean_se=0.003), reference=reference)
    found = candidate(ModelResult(name="m", quality=measured), None).measures["kld"]
    assert found.error == pytest.approx(math.hypot(0.003, 0.0196 / NOISE_Z))
    single = msgspec.structs.replace(measured, kld=KldSummary(0.1))  # one window has no standard error
    found = candidate(ModelResult(name="m", quality=single), None).measures["kld"]
    assert found.error == pytest.approx(math.hypot(0.01, 0.0196 / NOISE_Z))


GROWN = """
from lqmf_runner.results.metrics import ANY, METRICS, Metric

METRICS["e2e_s"] = Metric(
    "e2e_s", "e2e_s.p99", "E2E p99", "{:.1f} s", of_load=True, noise=0.05, tolerance=0.2, limits=ANY, column=True
)

from hydra import compose, initialize_config_dir
from lqmf_runner.app.compose import to_run_config
from lqmf_runner.app.conf import conf_dir
from lqmf_runner.app.hydra import register_schemas
from lqmf_runner.reports.document import run_document
from lqmf_runner.reports.markdown import render_markdown
from lqmf_runner.verdict.verdict import draw_verdict
from tests.support.runs.sample import sample_model, sample_results

register_schemas()
with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
    config = to_run_config(compose("config", ["mode=compare", "verdict.max_e2e_s=0.4"]))
results = sample_results(sample_model("a"), sample_model("b"))
results.verdict = draw_verdict(results.models, config.verdict)
print(render_markdown(run_document(results, [], [], {})))
"""


def test_a_metric_with_a_bound_is_one_more_entry() -> None:
    """It is composed, judged and reported: a fresh process, as the settings are made when they are imported."""
    done = subprocess.run(
        [sys.executable, "-c", GROWN], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "E2E p99 0.5 s (at most 0.4 s)" in done.stdout
    assert "No model meets E2E p99 at most 0.4 s" in done.stdout
    heads = next(line for line in done.stdout.splitlines() if line.startswith("| model | format"))
    assert "E2E p99 @8" in heads
