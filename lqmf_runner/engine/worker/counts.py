"""What steps and drafts add to a worker's counters."""

from __future__ import annotations

from collections.abc import Sequence

from ...types import EngineStats
from .runners.base import Span
from .speculation.draft_model import ModelDrafter
from .speculation.ngrams import NgramDrafter


def count_step(
    stats: EngineStats, spans: Sequence[Span], decoding: Sequence[bool], n_accepted: int, seconds: float
) -> bool:
    """Count a step. Returns whether it held no prompt tokens.

    Args:
        decoding: which of the spans did not belong to a prompt.
        n_accepted: drafted tokens that were accepted in it.
    """
    decoded = sum(decoding) + n_accepted
    prompt = sum(len(span.tokens) for span, d in zip(spans, decoding, strict=True) if not d)
    if not prompt:
        stats.decode_tokens += decoded
        stats.decode_steps += 1
        stats.decode_s += seconds
    elif not decoded:
        stats.prefill_tokens += prompt
        stats.prefill_s += seconds
    else:
        stats.mixed_prefill_tokens += prompt
        stats.mixed_decode_tokens += decoded
        stats.mixed_steps += 1
        stats.mixed_s += seconds
    return not prompt


def count_drafts(
    stats: EngineStats, by: NgramDrafter | ModelDrafter, *, drafted: int = 0, accepted: int = 0
) -> None:
    """Count drafted tokens, or how many of them were accepted, by who drafted them."""
    stats.drafted_tokens += drafted
    stats.accepted_tokens += accepted
    if isinstance(by, ModelDrafter):
        stats.draft_model_drafted_tokens += drafted
        stats.draft_model_accepted_tokens += accepted
