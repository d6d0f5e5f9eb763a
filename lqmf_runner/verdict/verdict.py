"""Makes the verdict: which model to run, and why.

Constraints decide which models qualify, `ranking` orders them, and `wording` gives the reasons. A difference smaller
than the noise is a tie.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..config import VerdictConfig
from ..results.lineage import grid_of
from ..results.schema import ENDED_BY_USER, ModelResult
from ..results.verdict import ModelVerdict, Verdict
from .candidates import candidate, verdict_concurrency
from .ranking import DIMENSIONS, Candidate, Ranked, dimension_sources, missing, pareto_front, rank
from .wording import Case, cautions, headline, sentences


def draw_verdict(
    models: Sequence[ModelResult], config: VerdictConfig, *, interleaved: bool = False
) -> Verdict | None:
    """The verdict over what was measured; None if there is nothing to judge. `interleaved`: see `candidate`."""
    if not models:
        return None
    concurrency = verdict_concurrency(models, config)
    found = [model.quality.reference for model in models if model.quality.reference]
    references = {each.name for each in found}
    reference = references.pop() if len(references) == 1 else None
    candidates = [candidate(model, concurrency, interleaved=interleaved) for model in models]
    verdict = choose_model(candidates, config, concurrency=concurrency, reference=reference)
    grids = dict.fromkeys(grid_of(each.name, each.origins) for each in found)
    said = [grid for grid in grids if grid is not None]
    return msgspec.structs.replace(verdict, cautions=[*verdict.cautions, *said])


def choose_model(
    candidates: Sequence[Candidate],
    config: VerdictConfig,
    *,
    concurrency: int | None = None,
    reference: str | None = None,
) -> Verdict:
    """Draw the verdict over the models that were measured. Models that failed, or lack a figure, are named and do not
    win.
    """
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
        models=_model_verdicts(case),
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


def _model_verdicts(case: Case) -> list[ModelVerdict]:
    weights = case.config.weights
    best = max((row.score.value for row in case.rows if row.score is not None), default=0.0)
    total = sum(getattr(weights, name) for name in case.sources) or 1.0
    front = pareto_front(case.rows)
    ranks = {
        row.name: rank for rank, row in enumerate((r for r in case.rows if r.score is not None), start=1)
    }
    verdicts = []
    for row in case.rows:
        broken = [row.candidate.broken] if row.candidate.broken else []
        why = "; ".join([*(miss.text for miss in row.misses), *broken])
        if row.score is None and not why:
            why = f"not ranked: {' and '.join(missing(row.candidate, weights, case.sources)) or 'nothing'} not measured"
            if row.candidate.uncounted:
                why = f"not ranked: its fidelity does not count, {row.candidate.uncounted}"
        verdicts.append(
            ModelVerdict(
                name=row.name,
                qualifies=row.qualifies,
                rank=ranks.get(row.name),
                score=None if row.score is None else 2.0 ** ((row.score.value - best) / total),
                on_front=row.name in front,
                misses=list(row.misses),
                why=why or ("meets every constraint" if case.config.bounds else "no constraint was given"),
            )
        )
    verdicts += [
        ModelVerdict(
            name=c.name,
            qualifies=False,
            error=c.error,
            why=ENDED_BY_USER if c.error == ENDED_BY_USER else f"failed: {c.error}",
        )
        for c in case.failed
    ]
    return verdicts
