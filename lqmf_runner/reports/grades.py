"""Tables about answers: decisions, similarity to reference answers, and the judge's scores.

Each is a pair of heads and rows, one row per model. What was not measured has no rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..results.quality import Calibration
from ..results.schema import ModelResult
from . import figures as fig

Rows = tuple[Sequence[str], Sequence[Sequence[str]]]


def decision_rows(models: Sequence[ModelResult]) -> Rows:
    """Flips and calibration; the reference first, where all models were held against the same decisions of it."""
    measured = [(model, found) for model in models if (found := model.quality.decisions) is not None]
    rows = [
        (
            model.name,
            fig.flips(model),
            f"{found.lost} / {found.gained}",
            fig.plus_minus(found.distance, found.distance_se),
            *_calibration(found.own),
            fig.percent(found.label_mass),
        )
        for model, found in measured
    ]
    references = {
        (model.quality.reference.name, found.reference)
        for model, found in measured
        if model.quality.reference is not None
    }
    if len(references) == 1:
        name, own = references.pop()
        none = fig.UNKNOWN
        rows.insert(0, (f"{name} (reference)", none, none, none, *_calibration(own), none))
    heads = (
        "", "flips", "lost / gained", "distance", "accuracy", "Brier", "calibration error", "said an option",
    )  # fmt: skip
    return heads, rows


def similarity_rows(models: Sequence[ModelResult]) -> Rows:
    """Nearness to the prompts' reference answers."""
    measured = [(model.name, found) for model in models if (found := model.quality.similarity) is not None]
    embedded = any(found.embedding is not None for _, found in measured)
    rows = [
        (
            name,
            fig.plus_minus(found.f1, found.f1_se),
            fig.plus_minus(found.recall, found.recall_se),
            fig.number(found.rouge_l),
            *([fig.plus_minus(found.embedding, found.embedding_se)] if embedded else []),
            str(found.prompts),
        )
        for name, found in measured
    ]
    return ("", "F1", "recall", "ROUGE-L", *(["embedding"] if embedded else []), "prompts"), rows


def judge_rows(models: Sequence[ModelResult]) -> Rows:
    """Scores by the judge, and each criterion of its rubric."""
    measured = [(model.name, found) for model in models if (found := model.quality.judge) is not None]
    criteria = list(dict.fromkeys(name for _, found in measured for name in found.criteria))
    rows = [
        (
            name,
            fig.plus_minus(found.score, found.score_se),
            *(fig.number(found.criteria.get(criterion)) for criterion in criteria),
            str(found.answers),
            str(found.failed),
            fig.percent(found.label_mass),
        )
        for name, found in measured
        if found.score is not None or found.failed
    ]
    return ("", "score", *criteria, "answers", "failed", "said a level"), rows


def pair_rows(models: Sequence[ModelResult]) -> Rows:
    """Answers beside another model's, and what the order did to the judge."""
    rows = [
        (
            model.name,
            pairs.against,
            f"{pairs.wins} / {pairs.ties} / {pairs.losses}",
            str(pairs.identical),
            fig.plus_minus(pairs.preference, pairs.preference_se),
            fig.percent(pairs.order_disagreement),
            fig.percent(pairs.first_preferred),
        )
        for model in models
        if model.quality.judge is not None and (pairs := model.quality.judge.pairs) is not None
    ]
    heads = (
        "", "against", "won / tied / lost", "identical", "preference", "orders disagree", "first preferred",
    )  # fmt: skip
    return heads, rows


def judged_by(models: Sequence[ModelResult]) -> str:
    """Who judged, in a sentence or two."""
    judges = dict.fromkeys(
        (judge.model, judge.rubric) for model in models if (judge := model.quality.judge) is not None
    )
    said = [f"Judge: {model}, by the rubric '{rubric}'." for model, rubric in judges]
    own = [model.name for model in models if model.quality.judge and model.quality.judge.model == model.name]
    if own:
        said.append(f"{', '.join(own)} judged its own answers, which models tend to prefer.")
    return " ".join(said)


def _calibration(found: Calibration) -> tuple[str, str, str]:
    return (
        fig.plus_minus(found.accuracy, found.accuracy_se),
        fig.number(found.brier),
        fig.number(found.ece),
    )
