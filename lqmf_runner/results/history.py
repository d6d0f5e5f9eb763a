"""Past runs, and which of their metrics became worse. Pure functions over the runs that the tracking store returns."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from .metrics import tracked_metric

_EARLIER = 5  # number of earlier runs that a run is compared with
_DEVIATIONS = 3.0  # standard deviations of the earlier runs that count as noise


class PastRun(msgspec.Struct, kw_only=True, frozen=True):
    """One model in one finished run.

    Attributes:
        id: of its MLflow run; `command` made it.
        started_at: ISO 8601 with offset.
        version: digest of the weights.
        status: "complete" or "partial".
        system, conditions: digests; only runs that agree in both, and in model and mode, can be compared.
        metrics: as in MLflow, e.g. "c8/ttft_s.p50".
    """

    id: str
    started_at: str
    model: str
    mode: str
    format: str | None = None
    method: str | None = None
    version: str | None = None
    status: str = "complete"
    commit: str | None = None
    prompts: str | None = None
    system: str = ""
    conditions: str = ""
    command: str = ""
    metrics: dict[str, float] = {}

    @property
    def comparable(self) -> tuple[str, str, str, str]:
        """Runs with the same one measured the same thing in the same way."""
        return self.model, self.mode, self.system, self.conditions


class Change(msgspec.Struct, frozen=True):
    """A metric that is worse than before: `before` is the median of the `runs` comparable ones that came last."""

    metric: str
    before: float
    after: float
    runs: int

    @property
    def relative(self) -> float | None:
        """After / before - 1; None if before is 0."""
        return self.after / self.before - 1 if self.before else None


def find_regressions(runs: Sequence[PastRun]) -> dict[str, list[Change]]:
    """The metrics of each run that are worse than in the comparable complete runs before it, by more than noise; by run
    id.

    Noise is the largest of: the metric's tolerance; three standard deviations (estimated from the median absolute
    deviation) of the earlier runs if they are three or more; the confidence intervals of repeated loads.
    """
    earlier: dict[tuple[str, ...], list[PastRun]] = {}
    found: dict[str, list[Change]] = {}
    for run in sorted(runs, key=lambda run: run.started_at):
        if run.status != "complete":
            continue
        before = earlier.setdefault(run.comparable, [])
        changes = [change for metric in run.metrics if (change := _worse(metric, run, before[-_EARLIER:]))]
        if changes:
            found[run.id] = changes
        before.append(run)
    return found


def newest(runs: Sequence[PastRun]) -> list[PastRun]:
    """The last run of each model in each mode."""
    last = {(run.model, run.mode): run for run in sorted(runs, key=lambda run: run.started_at)}
    return list(last.values())


def best(runs: Sequence[PastRun], metric: str) -> list[PastRun]:
    """The run of each model, mode and system with the best figure; runs without the metric are left out."""
    known = tracked_metric(metric)
    sign = -1.0 if known is not None and known.higher else 1.0
    kept: dict[tuple[str, ...], PastRun] = {}
    for run in runs:
        key = (run.model, run.mode, run.system)
        if metric in run.metrics and (
            key not in kept or sign * run.metrics[metric] < sign * kept[key].metrics[metric]
        ):
            kept[key] = run
    return list(kept.values())


def previous(run: PastRun, runs: Sequence[PastRun], metric: str) -> PastRun | None:
    """The last comparable run before this one that has the metric."""
    before = [
        other
        for other in runs
        if other.comparable == run.comparable
        and other.started_at < run.started_at
        and metric in other.metrics
    ]
    return max(before, key=lambda other: other.started_at, default=None)


def _worse(metric: str, run: PastRun, before: Sequence[PastRun]) -> Change | None:
    known = tracked_metric(metric)
    values = [other.metrics[metric] for other in before if metric in other.metrics]
    if known is None or not values:
        return None
    base, after = statistics.median(values), run.metrics[metric]
    noise = (known.tolerance or 0.0) * abs(base)
    if len(values) >= 3:
        spread = 1.4826 * statistics.median(abs(value - base) for value in values)
        noise = max(noise, _DEVIATIONS * spread)
    load, _, name = metric.rpartition("/")
    interval = f"{load}/repeats.{name}.ci95"
    intervals = [other.metrics[interval] for other in before if interval in other.metrics]
    if interval in run.metrics and intervals:
        noise = max(noise, run.metrics[interval] + statistics.median(intervals))
    loss = known.rank(after) - known.rank(base)
    return Change(metric, base, after, len(values)) if loss > noise else None
