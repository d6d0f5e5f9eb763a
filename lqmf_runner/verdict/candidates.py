"""From results to a verdict: the figures that models are judged by, and how sure each of them is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ..config import VerdictConfig
from ..errors import UserInputError
from ..results.quality import Quality
from ..results.schema import LoadResult, ModelResult
from .ranking import NOISE_Z, Candidate, Measure

# Relative standard errors of what was not repeated: what runs of one model on one machine usually differ by.
SPEED_NOISE = 0.025
TTFT_NOISE = 0.05
MEMORY_NOISE = 0.01
LOAD_TIME_NOISE = 0.15  # it happens once, from a disk whose cache is warm or not
FIDELITY_NOISE = 0.1  # of one window, which has no standard error


def check_measured(models: Sequence[ModelResult], config: VerdictConfig) -> None:
    """Refuse a constraint on what was measured of no model, and a load that none was measured under.

    Raises:
        UserInputError: there is one.
    """
    users = verdict_concurrency(models, config)
    loads = set().union(*map(_closed_loads, models))
    if config.concurrency is not None and users not in loads:
        raise UserInputError(
            f"verdict.concurrency={users} is a load that none of these runs has",
            hint=f"they have: {', '.join(map(str, sorted(loads))) or 'no closed loop'}",
        )
    measured = {key for model in models for key in candidate(model, users).measures}
    for name in config.bounds:
        if name.split("_", 1)[1] not in measured:
            raise UserInputError(
                f"verdict.{name} bounds what these runs did not measure",
                hint=f"they measured: {', '.join(sorted(measured)) or 'nothing'}",
            )


def verdict_concurrency(models: Iterable[ModelResult], config: VerdictConfig) -> int | None:
    """Of the load that speed is taken from: the one asked for, else the lowest that all models were measured under,
    else the lowest of any."""
    if config.concurrency is not None:
        return config.concurrency
    measured = [loads for model in models if (loads := _closed_loads(model))]
    common = set.intersection(*measured) if measured else set()
    return min(common or set().union(*measured), default=None)


def candidate(model: ModelResult, concurrency: int | None, *, interleaved: bool = False) -> Candidate:
    """A model as the verdict sees it. Figures that are not finite, or 0 where there must be some, were not measured.

    Repeats one after the other say nothing of how a machine drifts from run to run. Only where the models' repeats were
    `interleaved` is it in their spread; else it is added to that.
    """
    drift = 0.0 if interleaved else 1.0
    load = next((load for load in model.loads if load.shape.concurrency == concurrency is not None), None)
    memory, quality = model.memory, model.quality
    heuristic = quality.heuristic.score if quality.heuristic else None
    rss = memory.rss_mb + memory.gpu_mb if memory else None
    found = {
        "tokens_per_s": _speed(load, drift) if load else None,
        "ttft_s": _repeated(load, "ttft_s.p50", load.ttft_s.p50, TTFT_NOISE, drift) if load else None,
        "success_rate": _share(load.succeeded, load.requests) if load else None,
        "memory_mb": _measure(rss, MEMORY_NOISE),
        "size_mb": _measure(model.size_mb),
        "load_time_s": _measure(model.load_time_s, LOAD_TIME_NOISE),
        "kld": _kld(quality),
        "top1": _known(quality.top1_agreement, quality.top1_agreement_se, zero=True),
        "perplexity": _known(quality.perplexity, _perplexity_error(quality)),
        "heuristic": _known(heuristic, quality.heuristic_se, zero=True),
    }
    speeds = {
        load.shape.concurrency: speed
        for load in model.loads
        if load.shape.concurrency is not None and (speed := _speed(load, drift)) is not None
    }
    return Candidate(
        name=model.name,
        measures={key: measure for key, measure in found.items() if measure is not None},
        speeds=speeds,
        parts_after=quality.divergence.median if quality.divergence else None,
        error=model.error,
    )


def _closed_loads(model: ModelResult) -> set[int]:
    return {load.shape.concurrency for load in model.loads if load.shape.concurrency is not None}


def _speed(load: LoadResult, drift: float) -> Measure | None:
    return _repeated(load, "output_tokens_per_s", load.output_tokens_per_s, SPEED_NOISE, drift)


def _repeated(load: LoadResult, name: str, value: float | None, noise: float, drift: float) -> Measure | None:
    """A figure with the interval of its repeats, if there were any, and `drift` times the noise between runs."""
    found = load.repeats.get(name)
    if found is None or found.mean <= 0:
        return _measure(value, noise)
    return Measure(found.mean, math.hypot(found.ci95 / NOISE_Z, drift * noise * found.mean))


def _share(good: int, of: int) -> Measure | None:
    """A share of independent trials. Its error is Agresti and Coull's (1998), which is not 0 where none failed."""
    if not of:
        return None
    n = of + NOISE_Z**2
    centre = (good + NOISE_Z**2 / 2) / n
    return Measure(good / of, math.sqrt(centre * (1 - centre) / n))


def _perplexity_error(quality: Quality) -> float | None:
    """How hard the text is cancels between models; what is left is the error of the ratio to the reference's."""
    if quality.perplexity is None or not quality.perplexity_ratio or quality.perplexity_ratio_se is None:
        return None
    return quality.perplexity * quality.perplexity_ratio_se / quality.perplexity_ratio


def _kld(quality: Quality) -> Measure | None:
    """Mean KL divergence; what arithmetic alone does to the reference counts as noise."""
    if quality.kld is None or quality.kld.mean is None:
        return None
    found = _known(max(quality.kld.mean, 0.0), quality.kld.mean_se, zero=True)  # rounding may leave less
    floor = quality.reference.noise_floor if quality.reference else None
    if found is None or floor is None:
        return found
    return Measure(found.value, math.hypot(found.error, (floor.kld.mean or 0.0) / NOISE_Z))


def _known(value: float | None, error: float | None, *, zero: bool = False) -> Measure | None:
    """A figure with the standard error that was measured with it."""
    found = _measure(value, FIDELITY_NOISE, zero=zero)
    return found if found is None or error is None else Measure(found.value, error)


def _measure(value: float | None, noise: float = 0.0, *, zero: bool = False) -> Measure | None:
    if value is None or not math.isfinite(value) or not (value > 0 or (zero and value == 0)):
        return None
    return Measure(value, noise * value)
