"""Figures of fidelity to a reference model, as `results.json` carries them. None is "not known"."""

from __future__ import annotations

import msgspec


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
        noise_floor: None where it was not asked for or there is no other dtype.
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
