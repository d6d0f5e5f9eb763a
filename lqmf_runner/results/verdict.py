"""The verdict as it stands in `results.json`. The package `verdict` draws it."""

from __future__ import annotations

import msgspec


class Miss(msgspec.Struct, frozen=True, kw_only=True):
    """A constraint that a model does not meet.

    Attributes:
        constraint: its name in the configuration, "max_kld".
        label: what people call the figure.
        value: what was measured; null if nothing was.
        shortfall: |value - limit| / limit; null if nothing was measured.
        within_noise: the limit lies within the figure's 95 % interval.
        text: the same in words, "KLD 0.213 (at most 0.1)".
    """

    constraint: str
    label: str
    limit: float
    value: float | None
    shortfall: float | None
    within_noise: bool
    text: str


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of two models, or of one model in two runs.

    Attributes:
        metric: its key, `label` what people call it.
        before, after: the figures of `baseline` and `model`.
        change: after / before - 1; null where `before` is 0.
        beyond_noise: it is more than the standard errors explain (95 %).
        better: whether `after` is the better one; null within the noise.
        text: the same in words.
    """

    baseline: str
    model: str
    metric: str
    label: str
    before: float
    after: float
    change: float | None
    beyond_noise: bool
    better: bool | None
    text: str


class ModelVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """One model.

    Attributes:
        rank: 1 for the best, qualifying ones first; null if it failed or lacks a figure of the ranking.
        score: weighted geometric mean of speed, smallness and fidelity, relative to the best score there is.
        on_front: no other model beats it in all of speed, memory and fidelity.
        misses: the constraints it does not meet.
        error: why its run failed.
        why: in a few words, why it qualifies, does not, or is not judged.
    """

    name: str
    qualifies: bool
    rank: int | None = None
    score: float | None = None
    on_front: bool = False
    misses: list[Miss] = []
    error: str | None = None
    why: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, with its reasons.

    Attributes:
        winner: name of the model to run; null if none qualifies.
        headline: the answer in one line.
        sentences: the reasons in plain words, the most important first.
        cautions: what failed, was not measured, or makes the verdict weaker.
        doubts: those cautions for which nobody should act on it; no alias is moved.
        ties: models whose score differs from the winner's by less than the noise.
        models: one entry a model, in order of rank, those that failed at the end.
        pareto: models that no other one beats in all of speed, memory and fidelity.
        nearest: if none qualifies, the model that misses by the smallest relative shortfall.
        concurrency: of the load that speed, TTFT and success rate are taken from.
        reference: the model that fidelity is measured against.
        constraints: the bounds that were given, by name.
        weights: of the dimensions that were measured, in the ranking.
        differences: of finished runs, each figure against the first run's: is the difference more than noise?
    """

    winner: str | None
    headline: str
    sentences: list[str] = []
    cautions: list[str] = []
    doubts: list[str] = []
    ties: list[str] = []
    models: list[ModelVerdict] = []
    pareto: list[str] = []
    nearest: str | None = None
    concurrency: int | None = None
    reference: str | None = None
    constraints: dict[str, float] = {}
    weights: dict[str, float] = {}
    differences: list[Difference] = []
