"""Quality of a model's answers and its fidelity to a reference, as `results.json` carries them. None is "not known"."""

from __future__ import annotations

from typing import Any

import msgspec

from .lineage import Origin


class HeuristicScore(msgspec.Struct, frozen=True):
    """Heuristic quality (see `evaluation/heuristic.py`): `score` is the sum of the parts.

    `length` is 0–0.3, `relevance` 0–0.3, `coherence` 0–0.4.
    """

    score: float = 0.0
    length: float = 0.0
    relevance: float = 0.0
    coherence: float = 0.0


class Histogram(msgspec.Struct, frozen=True):
    """`counts[i]` values lie between `edges[i]` and `edges[i + 1]`; those beyond either end are in its bin."""

    edges: list[float]
    counts: list[int]


class KldSummary(msgspec.Struct, frozen=True):
    """KL divergence from the reference model, natural log, per scored position; `mean_se` is the mean's error."""

    mean: float | None = None
    median: float | None = None
    p90: float | None = None
    p99: float | None = None
    mean_se: float | None = None


class NoiseFloor(msgspec.Struct, frozen=True, kw_only=True):
    """The reference against itself, run in `dtype`: what arithmetic alone does. Smaller differences mean nothing.

    It is taken over the first of the windows, `positions` in all.
    """

    dtype: str
    kld: KldSummary
    top1_agreement: float
    positions: int


class ReferenceFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a model was compared with, and on what.

    Attributes:
        dtype: the reference ran in.
        perplexity: its own, over the same positions.
        text: name of the evaluation text; `tokens` of it were used, in `windows`, of which `positions` were scored.
        text_digest: hex digest of the text.
        bos: token that each window begins with; None where the reference's tokenizer puts none before a text.
        noise_floor: None where it was not asked for or there is no other dtype.
        origins: what the reference was made from, the nearest first; empty where nobody says.
    """

    name: str
    version: str
    dtype: str
    perplexity: float
    text: str
    text_digest: str
    tokens: int
    windows: int
    positions: int
    noise_floor: NoiseFloor | None = None
    origins: list[Origin] = []
    bos: int | None = None


class Parting(msgspec.Struct, frozen=True):
    """Index of the first token in which the answer to `prompt` differs from the reference's; None if none does."""

    prompt: str
    token: int | None


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """Where greedy answers first differ from the reference's, as index of the first differing token.

    Attributes:
        tokens: how many tokens of each answer were compared at most.
        median: over the prompts; None when more than half of the answers never differ.
        identical: share of answers that never differ.
        first: of each prompt.
    """

    tokens: int
    median: float | None
    identical: float
    first: list[Parting]


class SimilarityFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Similarity of answers to the reference answers of the prompts; means over prompts, 0 to 1.

    `evaluation/grading/similarity.py` computes them.

    Attributes:
        prompts: that have a reference and were answered, `answers` times in all.
        embedding: cosine of the embeddings of answer and reference, by the model `embedded_by`; null without one.
    """

    f1: float
    recall: float
    rouge_l: float
    prompts: int
    answers: int
    f1_se: float | None = None
    recall_se: float | None = None
    embedding: float | None = None
    embedding_se: float | None = None
    embedded_by: str | None = None


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """How right a model is on decisions whose right option is known, and how well its probabilities say so.

    Attributes:
        accuracy: share of decisions whose most likely option is the right one.
        brier: mean over decisions of Σ over options of (p - [it is the right one])², 0 to 2.
        ece: expected calibration error over 10 bins of equal width, Σ share of the bin · |accuracy - mean confidence|.
    """

    accuracy: float
    brier: float
    ece: float
    accuracy_se: float | None = None


class DecisionFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Typed decisions of a model held against the reference's (see `evaluation/fidelity/decisions.py`).

    Attributes:
        decisions: how many; `set` names them, `set_digest` is a digest of what is asked.
        flip_rate: share of decisions whose most likely option is another than the reference's.
        lost, gained: flips away from the right option, and to it.
        distance: mean total variation distance ½ Σ |p - p_ref| of the options' probabilities, 0 to 1.
        label_mass: mean probability of all options together among everything the model could have said.
        own, reference: calibration of the model and of the reference.
    """

    set: str
    set_digest: str
    decisions: int
    flip_rate: float
    distance: float
    lost: int
    gained: int
    label_mass: float
    own: Calibration
    reference: Calibration
    flip_rate_se: float | None = None
    distance_se: float | None = None


class PairFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A model's answers beside those of `against`, each pair shown to the judge in both orders.

    Attributes:
        pairs: prompts that both have answered; of these, `identical` are equal and not shown: a tie.
        wins, ties, losses: a win takes the judge's preference in both orders; what else is no loss is a tie.
        preference: mean probability that the model's answer is the better one, a tie counting half, over both orders.
        order_disagreement: share of the pairs shown in which turning them round turned the judgement round or to a tie;
            null if none was shown.
        first_preferred: mean probability of whichever answer stood first; 0.5 is a judge without position bias.
    """

    against: str
    pairs: int
    identical: int
    wins: int
    ties: int
    losses: int
    preference: float
    preference_se: float | None = None
    order_disagreement: float | None = None
    first_preferred: float | None = None


class JudgeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a judge model says of a model's answers (see `evaluation/grading/judge.py`).

    Attributes:
        model, version: of the judge.
        rubric: name and digest of what it was asked.
        answers: that were scored; `failed` could not be.
        score: mean over answers of the mean over criteria, 0 (lowest level) to 1 (highest).
        criteria: mean of each criterion.
        label_mass: mean probability of the levels together among everything the judge could have said. Where it is low,
            the judge does not do what it is asked.
        pairs: against another model's answers; null where there are none.
    """

    model: str
    version: str
    rubric: str
    rubric_digest: str
    answers: int
    failed: int = 0
    score: float | None = None
    score_se: float | None = None
    criteria: dict[str, float] = {}
    label_mass: float | None = None
    pairs: PairFigures | None = None


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """Quality of a model's answers. `heuristic` is the mean over all answers; the rest is null unless measured.

    Names that end in `_se` are standard errors. What lies between `perplexity` and `reference` needs the latter: what
    the model was compared with.

    Attributes:
        broken: why the figures are those of no working quantization, in words; see `broken.why_broken`.
        uncounted: why fidelity says nothing of this model, in words; see `lineage.why_uncounted`.
    """

    heuristic: HeuristicScore | None = None
    similarity: SimilarityFigures | None = None
    judge: JudgeFigures | None = None
    heuristic_se: float | None = None
    perplexity: float | None = None
    perplexity_se: float | None = None
    perplexity_ratio: float | None = None
    perplexity_ratio_se: float | None = None
    kld: KldSummary | None = None
    kld_histogram: Histogram | None = None
    top1_agreement: float | None = None
    top1_agreement_se: float | None = None
    divergence: Divergence | None = None
    decisions: DecisionFigures | None = None
    reference: ReferenceFigures | None = None
    broken: str | None = None
    uncounted: str | None = None
    tasks: dict[str, Any] = {}
