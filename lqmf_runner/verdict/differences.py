"""For each figure that two models have: whether the difference is more than noise."""

from __future__ import annotations

from collections.abc import Sequence

from ..results.finished import FinishedRun
from ..results.metrics import METRICS, Metric
from ..results.schema import ModelResult
from ..results.verdict import Difference
from .candidates import candidate
from .ranking import Candidate, Measure


def differences_from_first(
    runs: Sequence[FinishedRun], gathered: Sequence[Sequence[ModelResult]], users: int | None
) -> list[Difference]:
    """Each model compared with the first run's model of the same name, otherwise with the first run's first model.

    Args:
        gathered: the models of each run, as `finished.gather` names them.
        users: the load that figures are taken from.
    """
    if not gathered[0]:
        return []
    first = [model.name for model in runs[0].results.models]
    found: list[Difference] = []
    for run, models in zip(runs[1:], gathered[1:], strict=True):
        for plain, model in zip(run.results.models, models, strict=True):
            baseline = gathered[0][first.index(plain.name) if plain.name in first else 0]
            found += differences(candidate(baseline, users), candidate(model, users))
    return found


def differences(baseline: Candidate, other: Candidate) -> list[Difference]:
    """A statement for each figure that both have, those of the load first."""
    pairs = (
        (metric, baseline.measures.get(metric.key), other.measures.get(metric.key))
        for metric in sorted(METRICS.values(), key=lambda metric: not metric.of_load)
    )
    return [
        _difference(baseline.name, other.name, metric, before, after)
        for metric, before, after in pairs
        if before is not None and after is not None
    ]


def _difference(baseline: str, model: str, metric: Metric, before: Measure, after: Measure) -> Difference:
    tie = before.ties_with(after)
    change = after.value / before.value - 1 if before.value else None
    figures = f"{metric.write(before.value)} → {metric.write(after.value)}"
    if after.value == before.value:
        said = "equal"
    else:
        way = "more" if after.value > before.value else "less"
        amount = way if change is None else f"{_amount(change)} {way}"
        said = f"{amount}, within the noise" if tie else f"{amount}, beyond the noise"
    return Difference(
        baseline=baseline,
        model=model,
        metric=metric.key,
        label=metric.label,
        before=before.value,
        after=after.value,
        change=change,
        beyond_noise=not tie,
        better=None if tie else metric.is_better(after.value, before.value),
        text=f"{metric.label}: {figures} ({said})",
    )


def _amount(change: float) -> str:
    """A relative change with two digits, and with no power of ten where it is large."""
    return f"{abs(change) * 100:.2g} %" if abs(change) < 0.995 else f"{abs(change) * 100:,.0f} %"
