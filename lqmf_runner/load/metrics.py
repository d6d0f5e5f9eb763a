"""Metrics of a load, under the definitions of docs/metrics.md, from request records and the engine's counters.

Pure functions of plain numbers, so that they can be checked by hand and recomputed from `requests.jsonl`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..results.schema import LoadResult, RequestRecord, Shape, Summary
from ..types import EngineStats, ModelInfo


@dataclass(frozen=True)
class Objectives:
    """Service level objectives of goodput, in seconds; None is no bound. A request is good if it meets all that are
    given.
    """

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None

    @property
    def given(self) -> bool:
        """Whether there is any objective."""
        return (self.ttft_s, self.tpot_s, self.e2e_s) != (None, None, None)

    def met(self, record: RequestRecord) -> bool:
        """Whether a request met every objective. A one-token answer has no TPOT and meets any; one without content
        has no TTFT and meets none."""
        if self.given and record.ttft_s is None:
            return False
        if self.ttft_s is not None and record.ttft_s is not None and record.ttft_s > self.ttft_s:
            return False
        if self.tpot_s is not None and record.tpot_s is not None and record.tpot_s > self.tpot_s:
            return False
        return self.e2e_s is None or (record.e2e_s is not None and record.e2e_s <= self.e2e_s)


@dataclass(frozen=True)
class EngineRates:
    """Speeds by the engine's own clock over one load; None if there was no such work."""

    prefill_tokens_per_s: float | None = None
    decode_tokens_per_s: float | None = None
    decode_steps_per_s: float | None = None


def percentile(ordered: Sequence[float], q: float) -> float:
    """The q-th percentile (0–100) of sorted values, linear interpolation between closest ranks (numpy's default)."""
    rank = (len(ordered) - 1) * q / 100
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def summarise(values: Iterable[float | None]) -> Summary:
    """Mean, population standard deviation and percentiles; unknown values are left out, all None if none are left."""
    ordered = sorted(v for v in values if v is not None)
    if not ordered:
        return Summary()
    mean = math.fsum(ordered) / len(ordered)
    variance = math.fsum((v - mean) ** 2 for v in ordered) / len(ordered)
    return Summary(mean, math.sqrt(variance), *(percentile(ordered, q) for q in (50, 90, 95, 99)))


def engine_rates(before: EngineStats, after: EngineStats) -> EngineRates:
    """Speeds between two readings of the counters.

    Steps that held only prompt tokens, or only one token of each running request, give the rates. Under a constant
    stream of arrivals there may be none of a kind; its rate then comes from the mixed steps, whose time is
    apportioned by their tokens.
    """

    def grew(name: str) -> float:
        return float(getattr(after, name) - getattr(before, name))

    mixed_s = grew("mixed_s")
    mixed_tokens = grew("mixed_prefill_tokens") + grew("mixed_decode_tokens")
    mixed_rate = _ratio(mixed_tokens, mixed_s)
    prefill = _ratio(grew("prefill_tokens"), grew("prefill_s"))
    if prefill is None and grew("mixed_prefill_tokens") > 0:
        prefill = mixed_rate
    decode = _ratio(grew("decode_tokens"), grew("decode_s"))
    steps = _ratio(grew("decode_steps"), grew("decode_s"))
    if decode is None and grew("mixed_decode_tokens") > 0:
        decode = mixed_rate
        share = grew("mixed_decode_tokens") / mixed_tokens
        steps = _ratio(grew("mixed_steps"), mixed_s * share)
    return EngineRates(prefill, decode, steps)


def add_work(total: EngineStats, before: EngineStats, after: EngineStats) -> EngineStats:
    """`total` plus the growth of the counters between two readings: the work of several loads of a model in one."""
    names = EngineStats.__struct_fields__
    return EngineStats(
        **{name: getattr(total, name) + getattr(after, name) - getattr(before, name) for name in names}
    )


def bandwidth_utilisation(
    info: ModelInfo, rates: EngineRates, memory_bandwidth_gb_s: float | None
) -> float | None:
    """Share of the measured memory bandwidth that reading the weights took while decoding.

    The bandwidth is that of the main memory, so the share is known only for models that run on the CPU.
    """
    if (
        not memory_bandwidth_gb_s
        or not rates.decode_steps_per_s
        or not info.weight_bytes
        or info.device != "cpu"
    ):
        return None
    return info.weight_bytes * rates.decode_steps_per_s / (memory_bandwidth_gb_s * 1e9)


def load_result(
    shape: Shape,
    records: Sequence[RequestRecord],
    duration_s: float,
    *,
    rates: EngineRates = EngineRates(),
    bandwidth_share: float | None = None,
    objectives: Objectives = Objectives(),
    partial: bool = False,
) -> LoadResult:
    """All metrics of one load. A failed request counts in the success rate and nowhere else."""
    good = [r for r in records if r.error is None]
    prompt_tokens = sum(r.prompt_tokens for r in good)
    output_tokens = sum(r.output_tokens for r in good)
    goodput = _ratio(sum(objectives.met(r) for r in good), duration_s) if objectives.given else None
    return LoadResult(
        shape=shape,
        requests=len(records),
        succeeded=len(good),
        success_rate=_ratio(len(good), len(records)),
        duration_s=duration_s,
        ttft_s=summarise(r.ttft_s for r in good),
        itl_s=summarise(gap for r in good for gap in r.itl_s),
        tpot_s=summarise(r.tpot_s for r in good),
        e2e_s=summarise(r.e2e_s for r in good),
        first_content_s=summarise(r.first_content_s for r in good),
        output_tokens_per_s=_ratio(output_tokens, duration_s),
        total_tokens_per_s=_ratio(prompt_tokens + output_tokens, duration_s),
        requests_per_s=_ratio(len(good), duration_s),
        prefill_tokens_per_s=rates.prefill_tokens_per_s,
        decode_tokens_per_s=rates.decode_tokens_per_s,
        bandwidth_utilisation=bandwidth_share,
        goodput_rps=goodput,
        prompt_tokens=prompt_tokens,
        cached_tokens=sum(r.cached_tokens for r in good),
        output_tokens=output_tokens,
        drafted_tokens=sum(r.drafted_tokens for r in good),
        accepted_tokens=sum(r.accepted_tokens for r in good),
        draft_model_drafted_tokens=sum(r.draft_model_drafted_tokens for r in good),
        draft_model_accepted_tokens=sum(r.draft_model_accepted_tokens for r in good),
        partial=partial,
    )


def _ratio(amount: float, over: float) -> float | None:
    return amount / over if over > 0 else None
