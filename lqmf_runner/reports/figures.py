"""How figures are written for people. Unknown is a dash, never 0 or NaN."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from ..formats import find_format
from ..results.lineage import grid_of
from ..results.metrics import METRICS, Metric, value_at
from ..results.quality import ReferenceFigures
from ..results.schema import LoadResult, ModelResult, Shape, Summary

UNKNOWN = "–"


def number(value: float | None, unit: str = "") -> str:
    """About three significant digits: 2.1e-04, 0.00123, 0.123, 1.23, 12.3, 123, 1,234."""
    if value is None:
        return UNKNOWN
    size = abs(value)
    if 0 < size < 0.001:
        return f"{value:.1e}{unit}"
    digits = 2 if size == 0 else max(2 - math.floor(math.log10(size)), 0)
    return f"{value:,.{digits}f}{unit}"


def short_id(run_id: str) -> str:
    """The first eight characters of an MLflow run's id; more where `runs=[12e45678]` would be read as a number."""
    length = 8
    while length < len(run_id) and re.fullmatch(r"\d+e\d+", run_id[:length]):
        length += 1
    return run_id[:length]


def seconds(value: float | None) -> str:
    """Seconds, with one or two digits."""
    return UNKNOWN if value is None else f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def milliseconds(value: float | None) -> str:
    """Seconds, written as a bare number of milliseconds."""
    return number(None if value is None else value * 1e3)


def percent(share: float | None) -> str:
    """A share between 0 and 1 as a percentage; what is not quite all is not "100 %"."""
    if share is None:
        return UNKNOWN
    return f"{share * 100:.2f} %" if 0.995 <= share < 1 else f"{share * 100:.0f} %"


def megabytes(value: float | None) -> str:
    """Whole MB, and GB from 10 GB on. Zero is unknown: an endpoint does not tell."""
    if not value:
        return UNKNOWN
    return f"{value / 1e3:,.1f} GB" if value >= 10_000 else f"{value:,.0f} MB"


def written(metric: Metric, value: float | None) -> str:
    """A figure of the table of metrics, in the unit that tables have it in."""
    match metric.unit:
        case "ms":
            return milliseconds(value)
        case "MB":
            return megabytes(value)
        case "%":
            return UNKNOWN if value is None else f"{value * 100:.1f} %"
    return number(value)


def pair(summary: Summary) -> str:
    """Median and 99th percentile in milliseconds: "36 / 112"."""
    return f"{milliseconds(summary.p50)} / {milliseconds(summary.p99)}"


def load_label(shape: Shape) -> str:
    """A load in a table's head: "@8", "poisson 2/s", "served"."""
    if shape.concurrency is not None:
        return f"@{shape.concurrency}"
    return shape.kind if shape.rate is None else f"{shape.kind} {shape.rate:g}/s"


def estimated(load: LoadResult, metric: Metric) -> str:
    """A metric of a load; where the load was repeated, its mean and 95 % interval: "123 ± 4"."""
    found = load.repeats.get(metric.path)
    if found is None:
        return written(metric, value_at(load, metric.path))
    return f"{written(metric, found.mean)} ± {written(metric, found.ci95)}"


def ramp(model: ModelResult) -> str:
    """The highest rate that was sustained, in requests per second."""
    if model.ramp is None:
        return UNKNOWN
    if model.ramp.sustained_rps is None:
        return f"< {number(model.ramp.saturated_rps)}"
    return f"{'≥ ' if model.ramp.saturated_rps is None else ''}{number(model.ramp.sustained_rps)}"


def format_name(model: ModelResult) -> str:
    """What people call a model's format: "GGUF Q4_1", "NF4", "GPTQ 4-bit g64"."""
    format = find_format(model.format or "")
    if format is not None and model.method:
        return format.shown.format(method=model.method)
    return model.method or model.format or UNKNOWN


def memory(model: ModelResult) -> str:
    """Resident memory of the worker, and what it holds on a GPU."""
    if model.memory is None:
        return UNKNOWN
    gpu = f" + {megabytes(model.memory.gpu_mb)} GPU" if model.memory.gpu_mb else ""
    return megabytes(model.memory.rss_mb) + gpu


def heuristic(model: ModelResult) -> str:
    """The heuristic score."""
    score = model.quality.heuristic
    return UNKNOWN if score is None else f"{score.score:.2f}"


def plus_minus(value: float | None, error: float | None) -> str:
    """A figure and its standard error, where there is one, with two digits of the error: 0.0032 ± 0.00036."""
    if value is None or not error:
        return number(value)
    digits = min(max(1 - math.floor(math.log10(error)), 0), 8)
    return f"{value:,.{digits}f} ± {error:,.{digits}f}"


def kld(model: ModelResult) -> str:
    """Mean KL divergence from the reference."""
    found = model.quality.kld
    return UNKNOWN if found is None else plus_minus(found.mean, found.mean_se)


def top1(model: ModelResult) -> str:
    """Share of positions where the model's most likely token is the reference's."""
    return written(METRICS["top1"], model.quality.top1_agreement)


def divergence(model: ModelResult) -> str:
    """The token at which greedy answers differ from the reference's (median)."""
    found = model.quality.divergence
    if found is None:
        return UNKNOWN
    return f"> {found.tokens}" if found.median is None else f"{found.median:g}"


def flips(model: ModelResult) -> str:
    """Share of typed decisions that turn out differently from the reference's: "9.5 ± 3.4 %"."""
    found = model.quality.decisions
    if found is None:
        return UNKNOWN
    error = "" if found.flip_rate_se is None else f" ± {found.flip_rate_se * 100:.1f}"
    return f"{found.flip_rate * 100:.1f}{error} %"


def similarity(model: ModelResult) -> str:
    """Shared words with the reference answers, F1."""
    found = model.quality.similarity
    return UNKNOWN if found is None else f"{found.f1:.2f}"


def judged(model: ModelResult) -> str:
    """The judge's score; without one, how its answers do against another model's."""
    found = model.quality.judge
    if found is None:
        return UNKNOWN
    if found.score is None and found.pairs is not None:
        return f"{found.pairs.preference * 100:.0f} % preferred"
    return UNKNOWN if found.score is None else f"{found.score:.2f}"


def task(model: ModelResult, name: str, metric: str) -> str:
    """A metric of a task with its standard error: "0.955 ± 0.032"."""
    found = model.quality.tasks.get(name, {})
    error = found.get(f"{metric}_stderr")
    return number(found.get(metric)) + ("" if error is None else f" ± {error:.3f}")


def reference(figures: ReferenceFigures) -> str:
    """What models were compared with, and how much arithmetic alone does, in a sentence or two."""
    text = (
        f"Reference {figures.name} ({figures.dtype}): perplexity {number(figures.perplexity)} over "
        f"{figures.positions:,} positions of the text '{figures.text}' ({figures.tokens:,} tokens)."
    )
    floor = figures.noise_floor
    if floor is None:
        return text
    return (
        f"{text} Noise floor, itself in {floor.dtype}: KLD {plus_minus(floor.kld.mean, floor.kld.mean_se)}, "
        f"top-1 {floor.top1_agreement * 100:.1f} %."
    )


def references(models: Iterable[ModelResult]) -> list[str]:
    """One for each reference there was, and what is to be known of its weights."""
    found = [model.quality.reference for model in models if model.quality.reference is not None]
    grids = (grid for each in found if (grid := grid_of(each.name, each.origins)) is not None)
    return list(dict.fromkeys([*map(reference, found), *grids]))


def find_load(model: ModelResult, shape: Shape) -> LoadResult | None:
    """The model's load of that shape, if it got that far."""
    return next((load for load in model.loads if load.shape == shape), None)
