"""The table of metrics: what each figure of a model is called, where it lies, which way is better, how sure it is.

Reports, history, the verdict and the names of its bounds (`verdict.max_kld`) come from this table; a test holds
docs/metrics.md to it. A new metric is one more entry, and the arithmetic that puts its figure into the results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .quality import Quality
from .schema import LoadResult, ModelResult

NOISE_Z = 1.96  # a difference counts when it leaves the 95 % interval around none
GROUPS = ("memory", "ramp", "quality")  # fields of a model that MLflow's names set off with a slash
ANY: tuple[float, float | None] = (0.0, None)
SHARE: tuple[float, float | None] = (0.0, 1.0)


@dataclass(frozen=True)
class Metric:
    """One figure of a model, or of a model under one load.

    Attributes:
        key: its name in the verdict, and in the setting that bounds it.
        path: where it lies in `results.json`, from the model on, or from the load on if `of_load`.
        label: what sentences call it; `head` is what tables and the history call it, where that differs.
        form: how sentences write it, after multiplication by `scale`.
        unit: how tables write it: a bare number, milliseconds, MB, or a percentage.
        higher: more is better.
        zero: 0 can be measured. Where it cannot, 0 is a figure that is not known.
        noise: relative standard error of a figure that came without one: how much runs of one model on one machine
            differ.
        tolerance: relative change that the history takes for noise, however little earlier runs differ; None where the
            history does not say what became worse.
        limits: lowest and highest value of its bound in `verdict`; None where it has no bound, and is no part of the
            verdict.
        column: it has a column of its own at the end of the report's comparison.
        figure: reads the figure, where it is not simply what lies at `path`.
        error: reads the standard error that was measured with the figure.
    """

    key: str
    path: str
    label: str
    form: str
    head: str = ""
    unit: Literal["", "ms", "MB", "%"] = ""
    scale: float = 1.0
    higher: bool = False
    of_load: bool = False
    zero: bool = False
    noise: float = 0.0
    tolerance: float | None = None
    limits: tuple[float, float | None] | None = None
    column: bool = False
    figure: Callable[[Any], float | None] | None = None
    error: Callable[[Any], float | None] | None = None

    @property
    def title(self) -> str:
        """Its heading in tables and in the history."""
        return self.head or self.label

    @property
    def bound(self) -> str | None:
        """The setting of `verdict` that bounds it: "max_kld", "min_tokens_per_s"."""
        return None if self.limits is None else f"{'min' if self.higher else 'max'}_{self.key}"

    @property
    def tracked(self) -> str:
        """Its name in MLflow, of a load without the load: "quality/kld.mean", "ttft_s.p50"."""
        group, dot, rest = self.path.partition(".")
        return f"{group}/{rest}" if dot and not self.of_load and group in GROUPS else self.path

    @property
    def field(self) -> str:
        """The field that it is taken from, without the statistic: "ttft_s" of "ttft_s.p50", "kld", "rss_mb"."""
        first, _, rest = self.path.partition(".")
        return rest.partition(".")[0] if first in GROUPS else first

    def read(self, source: ModelResult | LoadResult) -> float | None:
        """The figure of a model or a load. None if it is not known, not finite, or 0 where `zero` is false."""
        value = value_at(source, self.path) if self.figure is None else self.figure(source)
        if value is None or not math.isfinite(value) or not (value > 0 or (self.zero and value == 0)):
            return None
        return float(value)

    def read_error(self, source: ModelResult | LoadResult, value: float) -> float:
        """The standard error of the figure `value`: the measured one, otherwise the usual noise."""
        measured = None if self.error is None else self.error(source)
        return self.noise * value if measured is None else measured

    def rank(self, value: float) -> float:
        """Sort key of models: the lowest is the best."""
        return -value if self.higher else value

    def is_better(self, one: float, other: float) -> bool:
        """Whether the first is better; equal values are not."""
        return one > other if self.higher else one < other

    def write(self, value: float) -> str:
        """The value with its unit; without one, it ends where its zeros begin."""
        text = self.form.format(value * self.scale)
        return text.rstrip("0").rstrip(".") if self.form.endswith("f}") else text

    def limit(self, value: float) -> str:
        """A bound without the figure's name, its decimals as the user gave them: "at least 150 tok/s"."""
        unit = self.form.partition("}")[2]
        text = f"{value * self.scale:,.12f}".rstrip("0").rstrip(".")
        return f"{'at least' if self.higher else 'at most'} {text}{unit}"

    def wanted(self, limit: float) -> str:
        """A bound in words: "KLD at most 0.1"."""
        return f"{self.label} {self.limit(limit)}"


def tracked_metric(name: str) -> Metric | None:
    """The metric of a name in MLflow, e.g. "c8/ttft_s.p50"; None if the history does not say what is worse there."""
    for metric in METRICS.values():
        ending = name.rpartition("/")[2] if metric.of_load else name
        if metric.tolerance is not None and ending == metric.tracked:
            return metric
    return None


def bounds() -> dict[str, Metric]:
    """The settings of `verdict` that bound a metric, by name."""
    return {metric.bound: metric for metric in METRICS.values() if metric.bound is not None}


def value_at(source: object, path: str) -> Any:
    """The value at a dotted path of structs and mappings; None if the path ends early."""
    for name in path.split("."):
        source = source.get(name) if isinstance(source, Mapping) else getattr(source, name)
        if source is None:
            return None
    return source


def _error_at(path: str) -> Callable[[Any], float | None]:
    """Reads the standard error that lies at a path."""
    return lambda source: value_at(source, path)


def _answered(load: LoadResult) -> float | None:
    return load.succeeded / load.requests if load.requests else None


def _answered_error(load: LoadResult) -> float:
    """The error of a share of independent trials, by Agresti and Coull (1998): it is not 0 if none failed."""
    n = load.requests + NOISE_Z**2
    centre = (load.succeeded + NOISE_Z**2 / 2) / n
    return math.sqrt(centre * (1 - centre) / n)


def _memory(model: ModelResult) -> float | None:
    return model.memory.rss_mb + model.memory.gpu_mb if model.memory else None


def _kld(model: ModelResult) -> float | None:
    """Rounding may leave the mean of equal distributions just below 0."""
    kld = model.quality.kld
    return None if kld is None or kld.mean is None else max(kld.mean, 0.0)


def _kld_error(model: ModelResult) -> float | None:
    """The error of the windows, plus the noise of the reference's own arithmetic."""
    quality = model.quality
    error = quality.kld.mean_se if quality.kld else None
    floor = quality.reference.noise_floor if quality.reference else None
    if floor is None:
        return error
    if error is None:
        error = METRICS["kld"].noise * (_kld(model) or 0.0)
    return math.hypot(error, (floor.kld.mean or 0.0) / NOISE_Z)


def _perplexity_error(model: ModelResult) -> float | None:
    """The difficulty of the text cancels between models; the rest is the error of the ratio to the reference."""
    quality: Quality = model.quality
    if quality.perplexity is None or not quality.perplexity_ratio or quality.perplexity_ratio_se is None:
        return None
    return quality.perplexity * quality.perplexity_ratio_se / quality.perplexity_ratio


METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in (
        Metric("memory_mb", "memory.rss_mb", "memory", "{:,.0f} MB", unit="MB", noise=0.01, tolerance=0.10, limits=ANY,
               figure=_memory),
        Metric("size_mb", "size_mb", "size", "{:,.0f} MB", unit="MB", limits=ANY),
        # Once a run, from a disk whose cache is warm or not.
        Metric("load_time_s", "load_time_s", "load time", "{:.2f} s", noise=0.15, tolerance=0.50, limits=ANY),
        Metric("tokens_per_s", "output_tokens_per_s", "speed", "{:.1f} tok/s", head="tok/s", higher=True, of_load=True,
               noise=0.025, tolerance=0.10, limits=ANY),
        Metric("ttft_s", "ttft_s.p50", "TTFT p50", "{:.3f} s", unit="ms", of_load=True, noise=0.05, tolerance=0.20,
               limits=ANY),
        Metric("itl_s", "itl_s.p50", "ITL p50", "{:.4f} s", unit="ms", of_load=True, tolerance=0.10),
        Metric("goodput", "goodput_rps", "goodput", "{:.2f} req/s", higher=True, of_load=True, zero=True,
               tolerance=0.10),
        Metric("success_rate", "success_rate", "success rate", "{:.1f} %", head="success", unit="%", scale=100,
               higher=True, of_load=True, zero=True, tolerance=0.01, limits=SHARE, figure=_answered,
               error=_answered_error),
        # Fidelity has a standard error unless the text was a single window.
        Metric("kld", "quality.kld.mean", "KLD", "{:.4f}", zero=True, noise=0.1, tolerance=0.05, limits=ANY,
               figure=_kld, error=_kld_error),
        Metric("top1", "quality.top1_agreement", "top-1", "{:.1f} %", unit="%", scale=100, higher=True, zero=True,
               noise=0.1, tolerance=0.01, limits=SHARE, error=_error_at("quality.top1_agreement_se")),
        Metric("perplexity", "quality.perplexity", "perplexity", "{:.2f}", noise=0.1, tolerance=0.01,
               limits=(1.0, None), error=_perplexity_error),
        Metric("flips", "quality.decisions.flip_rate", "decision flips", "{:.1f} %", unit="%", scale=100, zero=True),
        Metric("heuristic", "quality.heuristic.score", "heuristic quality", "{:.2f}", head="heuristic", higher=True,
               zero=True, noise=0.1, tolerance=0.05, limits=SHARE, error=_error_at("quality.heuristic_se")),
    )
}  # fmt: skip
"""By key. Bounds are listed, and named in the verdict, in this order."""
