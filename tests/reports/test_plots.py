"""Plots: which there are, and that edge cases are drawn and not crashed on."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree

import msgspec
import numpy as np
import pytest
from PIL import Image

from lqmf_runner.reports.plots import draw_plots
from lqmf_runner.reports.plots.pareto import _front, _Model
from lqmf_runner.reports.plots.style import Plot, colour, marker, unique
from lqmf_runner.results.quality import Histogram, KldSummary, Quality
from lqmf_runner.results.schema import LoadResult, ModelResult, RequestRecord, Shape, Summary
from tests.support.runs.sample import sample_model, sample_record, sample_results

HISTOGRAM = Histogram([0.0, 0.001, 0.01, 0.1, 1.0], [5, 40, 30, 2])


def with_fidelity(model: ModelResult, kld: float | None, **values: object) -> ModelResult:
    summary = None if kld is None else KldSummary(kld, kld / 2, kld * 2, kld * 5)
    model.quality = Quality(kld=summary, **values)  # type: ignore[arg-type]
    return model


def records_of(*models: ModelResult) -> list[RequestRecord]:
    return [
        sample_record(m.name, f"c{load.shape.concurrency}", i)
        for m in models
        for load in m.loads
        for i in range(3)
    ]


def draw(*models: ModelResult) -> dict[str, Plot]:
    plots = draw_plots(sample_results(*models), records_of(*models))
    for plot in plots:
        assert Image.open(io.BytesIO(plot.png)).width > 600
        ElementTree.fromstring(plot.svg.replace("xlink:href", "href"))
        assert "#1b1f24" not in plot.svg  # colours follow the page
    return {plot.name: plot for plot in plots}


def test_a_run_of_one_model() -> None:
    assert set(draw(sample_model("a"))) == {"throughput.png", "ttft.png", "itl.png"}


def test_one_load_has_no_line_to_draw() -> None:
    assert set(draw(sample_model("a", users=(4,)))) == {"ttft.png", "itl.png"}


def test_nothing_measured_draws_nothing() -> None:
    assert draw(ModelResult(name="a", error="x")) == {}


def test_fidelity_brings_its_plots() -> None:
    a = with_fidelity(sample_model("a"), 0.02, kld_histogram=HISTOGRAM)
    reference = with_fidelity(sample_model("original", speed=30.0), 0.0, top1_agreement=1.0)
    plots = draw(a, reference, sample_model("unknown"))
    assert set(plots) == {"pareto.png", "throughput.png", "ttft.png", "itl.png", "kld.png"}
    assert "unknown" not in plots["pareto.png"].svg
    assert "original" not in plots["kld.png"].svg


@pytest.mark.parametrize(
    ("values", "axis"),
    [({"top1_agreement": 0.9}, "top-1 disagreement"), ({"perplexity": 12.0}, "perplexity")],
)
def test_without_kld_the_next_measure_of_fidelity_is_taken(values: dict[str, float], axis: str) -> None:
    plots = draw(*(with_fidelity(sample_model(name), None, **values) for name in "ab"))
    assert axis in plots["pareto.png"].svg


def test_figures_that_are_not_known_leave_gaps() -> None:
    load = LoadResult(
        shape=Shape("closed", 4), requests=2, succeeded=0, success_rate=0.0, duration_s=1.0,
        ttft_s=Summary(), itl_s=Summary(), tpot_s=Summary(), e2e_s=Summary(),
    )  # fmt: skip
    hollow = ModelResult(name="hollow", loads=[load], quality=Quality(kld=KldSummary()))
    plots = draw_plots(sample_results(sample_model("a"), hollow), [])
    assert [plot.name for plot in plots] == ["throughput.png"]
    assert "hollow" not in plots[0].svg


def test_open_loops_are_drawn_over_their_rate() -> None:
    model = sample_model("a", users=(1, 4))
    model.loads = [
        msgspec.structs.replace(load, shape=Shape("poisson", rate=rate))
        for load, rate in zip(model.loads, (1.0, 2.5), strict=True)
    ]
    (plot,) = draw_plots(sample_results(model), [])
    assert plot.name == "rates.png"
    assert "2.5" in plot.svg


def test_twelve_models_with_long_names() -> None:
    names = [f"Qwen_Qwen2.5-1.5B-Instruct_$x^2$<i>{n}</i>_with_a_long_name_bnb_4bit" for n in range(12)]
    plots = draw(*(with_fidelity(sample_model(n), 0.01, kld_histogram=HISTOGRAM) for n in names))
    assert len(plots) == 5
    assert "<i>" not in plots["throughput.png"].svg
    assert len(set(unique(names))) == 12
    assert len({(colour(n), marker(n)) for n in range(12)}) == 12


def test_gaps_of_zero_and_one_value_can_be_drawn() -> None:
    model = sample_model("a", users=(1,))
    records = [sample_record("a", "c1", 0, ttft_s=0.2, itl_s=[0.0, 0.0])]
    assert [plot.name for plot in draw_plots(sample_results(model), records)] == ["ttft.png"]


def test_the_front_is_what_none_beats_in_both() -> None:
    points = [(10, 0.5), (20, 0.5), (30, 0.1), (5, 0.01), (30, 0.2)]
    models = [_Model(n, str(n), speed, loss, None) for n, (speed, loss) in enumerate(points)]
    assert [m.number for m in _front(models)] == [3, 2]
    random = np.random.default_rng(0).random((40, 2))
    models = [_Model(n, str(n), speed, loss, None) for n, (speed, loss) in enumerate(random)]
    for model in models:
        beaten = any(m.speed > model.speed and m.loss < model.loss for m in models)
        assert (model in _front(models)) != beaten
