"""Which model should I run? The verdict over what was measured, as it stands in `results.json`.

Constraints decide which models qualify, `ranking` orders them, and `verdict_words` says why. A difference that is
smaller than the noise is called a tie.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..config import VerdictConfig
from .differences import Difference
from .ranking import DIMENSIONS, Candidate, Miss, Ranked, dimension_sources, missing, pareto_front, rank
from .verdict_words import Case, cautions, headline, sentences


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
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
        ties: models whose score differs from the winner's by less than the noise.
        models: a judgement for each model, in order of rank, those that failed at the end.
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
    ties: list[str] = []
    models: list[Judgement] = []
    pareto: list[str] = []
    nearest: str | None = None
    concurrency: int | None = None
    reference: str | None = None
    constraints: dict[str, float] = {}
    weights: dict[str, float] = {}
    differences: list[Difference] = []


def judge(
    candidates: Sequence[Candidate],
    config: VerdictConfig,
    *,
    concurrency: int | None = None,
    reference: str | None = None,
) -> Verdict:
    """Draw the verdict over what is there. Models that failed, or lack a figure, are named and do not win."""
    ran = [candidate for candidate in candidates if candidate.error is None]
    failed = [candidate for candidate in candidates if candidate.error is not None]
    rows = rank(ran, config)
    winner = rows[0] if rows and rows[0].qualifies and rows[0].score is not None else None
    ties = [row for row in rows if winner is not None and row is not winner and _tie(winner, row)]
    sources = dimension_sources(ran)
    case = Case(rows, winner, ties, failed, config, sources, concurrency, reference)
    return Verdict(
        winner=winner.name if winner else None,
        headline=headline(case),
        sentences=sentences(case),
        cautions=cautions(case),
        ties=[row.name for row in ties],
        models=_judgements(case),
        pareto=pareto_front(rows),
        nearest=case.nearest.name if case.nearest else None,
        concurrency=concurrency,
        reference=reference,
        constraints=config.bounds,
        weights={name: getattr(config.weights, name) for name in DIMENSIONS if name in sources},
    )


def _tie(winner: Ranked, row: Ranked) -> bool:
    if not row.qualifies or row.score is None or winner.score is None:
        return False
    return winner.score.ties_with(row.score)


def _judgements(case: Case) -> list[Judgement]:
    weights = case.config.weights
    best = max((row.score.value for row in case.rows if row.score is not None), default=0.0)
    total = sum(getattr(weights, name) for name in case.sources) or 1.0
    front = pareto_front(case.rows)
    ranks = {
        row.name: rank for rank, row in enumerate((r for r in case.rows if r.score is not None), start=1)
    }
    judgements = []
    for row in case.rows:
        why = "; ".join(miss.text for miss in row.misses)
        if row.score is None and not why:
            why = f"not ranked: {' and '.join(missing(row.candidate, weights, case.sources)) or 'nothing'} not measured"
        judgements.append(
            Judgement(
                name=row.name,
                qualifies=row.qualifies,
                rank=ranks.get(row.name),
                score=None if row.score is None else 2.0 ** ((row.score.value - best) / total),
                on_front=row.name in front,
                misses=list(row.misses),
                why=why or ("meets every constraint" if case.config.bounds else "no constraint was given"),
            )
        )
    judgements += [
        Judgement(name=c.name, qualifies=False, error=c.error, why=f"failed: {c.error}") for c in case.failed
    ]
    return judgements
