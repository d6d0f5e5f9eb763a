"""From results to candidates: reads each model's figures with their standard errors, and chooses the load for speed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ..config import VerdictConfig
from ..errors import UserInputError
from ..load.repeats import t95
from ..results.broken import why_broken
from ..results.metrics import METRICS, NOISE_Z, Metric, bounds
from ..results.schema import LoadResult, ModelResult
from .ranking import ENOUGH_REQUESTS, OF_FIDELITY, Candidate, Measure


def check_measured(models: Sequence[ModelResult], config: VerdictConfig) -> None:
    """Refuse a constraint on a figure that no model has, and a `verdict.concurrency` that no model was measured at.

    Raises:
        UserInputError: the configuration has such a constraint or load.
    """
    users = verdict_concurrency(models, config)
    loads = set().union(*map(_closed_loads, models))
    if config.concurrency is not None and users not in loads:
        raise UserInputError(
            f"verdict.concurrency={users} is a load that none of these runs has",
            hint=f"they have: {', '.join(map(str, sorted(loads))) or 'no closed loop'}",
        )
    measured = {key for model in models for key in candidate(model, users).measures}
    metrics = bounds()
    for name in config.bounds:
        if metrics[name].key not in measured:
            raise UserInputError(
                f"verdict.{name} bounds what these runs did not measure",
                hint=f"they measured: {', '.join(sorted(measured)) or 'nothing'}",
            )


def verdict_concurrency(models: Iterable[ModelResult], config: VerdictConfig) -> int | None:
    """The concurrency of the load that speed is taken from: the configured one, otherwise the lowest that all models
    have, otherwise the lowest that any has.

    It is the one that is asked for, else the lowest that all models have, else the lowest that any has.
    """
    if config.concurrency is not None:
        return config.concurrency
    measured = [loads for model in models if (loads := _closed_loads(model))]
    common = set.intersection(*measured) if measured else set()
    return min(common or set().union(*measured), default=None)


def candidate(model: ModelResult, concurrency: int | None, *, interleaved: bool = False) -> Candidate:
    """A model's figures with their standard errors. A figure that is not finite, or 0 where it cannot be, is left out.

    The spread of consecutive repeats does not include the machine's drift between runs, so the metric's noise is added
    to it. If the models' repeats were `interleaved`, the drift is in the spread, and nothing is added.

    Fidelity that does not count (`Quality.uncounted`) is left out.
    """
    drift = 0.0 if interleaved else 1.0
    load = next((load for load in model.loads if load.shape.concurrency == concurrency is not None), None)
    quality = model.quality
    divergence = None if quality.uncounted else quality.divergence
    measures: dict[str, Measure | None] = {}
    for metric in METRICS.values():
        source = load if metric.of_load else model
        if quality.uncounted and metric.key in OF_FIDELITY:
            continue
        if metric.limits is not None and source is not None:
            measures[metric.key] = _measure(metric, source, drift)
    speeds = {
        load.shape.concurrency: _measure(METRICS["tokens_per_s"], load, drift)
        for load in model.loads
        if load.shape.concurrency is not None
    }
    return Candidate(
        name=model.name,
        measures={key: measure for key, measure in measures.items() if measure is not None},
        speeds={users: speed for users, speed in speeds.items() if speed is not None},
        parts_after=divergence.median if divergence else None,
        error=model.error,
        broken=why_broken(quality),
        uncounted=quality.uncounted,
        other_cores=model.other_cores,
        requests=None if load is None or load.repeats else load.succeeded,
    )


def _closed_loads(model: ModelResult) -> set[int]:
    return {load.shape.concurrency for load in model.loads if load.shape.concurrency is not None}


def _measure(metric: Metric, source: ModelResult | LoadResult, drift: float) -> Measure | None:
    """A figure with its standard error; where a load was repeated, that of the repeats and `drift` times the noise."""
    repeated = source.repeats.get(metric.path) if isinstance(source, LoadResult) else None
    if repeated is not None and repeated.mean > 0:
        error = math.hypot(repeated.ci95 / NOISE_Z, drift * metric.noise * repeated.mean)
        return Measure(repeated.mean, error)
    value = metric.read(source)
    if value is None:
        return None
    error = metric.read_error(source, value)
    if isinstance(source, LoadResult) and metric.error is None and source.succeeded:
        error *= _few(source.succeeded)
    return Measure(value, error)


def _few(requests: int) -> float:
    """The factor on the usual noise for one load of so few requests; 1 from `ENOUGH_REQUESTS` on.

    A mean over n requests varies as 1 / √n. The variance of so few requests is itself uncertain: a comparison of two
    such loads has 2 n - 2 degrees of freedom. A single request has none and uses those of two.
    """
    if requests >= ENOUGH_REQUESTS:
        return 1.0
    return math.sqrt(ENOUGH_REQUESTS / requests) * t95(max(2, 2 * requests - 2)) / NOISE_Z
