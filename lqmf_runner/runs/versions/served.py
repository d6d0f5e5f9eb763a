"""mode=compare mode.served=<name>: judges the versions that share the requests for a name by what they have served."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ...config import CompareMode, TrackingConfig
from ...errors import UserInputError
from ...load.metrics import summarise
from ...models.registered import Weights
from ...results.schema import LoadResult, ModelResult, Shape, Summary
from ...results.served import CANCELLED, FAILED, OK, ServedRecord, read_served
from ...tracking import MlflowTracker
from ...tracking.session import WEIGHTS_NAME
from ...verdict.served.judging import judge_served
from ..context import RunContext
from ..lifecycle import begin, leave
from .promote import promote_winner


@dataclass(frozen=True)
class Traffic:
    """What was served for a name under its last split.

    Attributes:
        earlier: how many requests there were under other shares, which are left out.
        weights: what is known of the versions, by their label.
    """

    records: Sequence[ServedRecord]
    earlier: int
    weights: dict[str, Weights]


def compare_served(context: RunContext, sessions: Sequence[str]) -> int:
    """Judge, and return the exit code.

    Args:
        sessions: folders of servers, or the ids of their runs in MLflow.

    Raises:
        UserInputError: they have served no split of this name.
        TrackingError: MLflow cannot be read.
    """
    from ...reports.display import BenchmarkDisplay

    config = context.config
    assert isinstance(config.mode, CompareMode)
    assert config.mode.served is not None
    name = config.mode.served
    traffic = _traffic(name, sessions, config.tracking)
    shares = traffic.records[-1].shares
    results = begin(context, f"{name}, as served")
    results.run.reason, results.run.compares = None, [Path(session).name for session in sessions]
    results.models = [_model(label, traffic) for label in shares]
    verdict = judge_served(traffic.records, shares)
    if traffic.earlier:
        left_out = f"{traffic.earlier:,} earlier requests, under other shares, are left out"
        verdict = msgspec.structs.replace(verdict, cautions=[*verdict.cautions, left_out])
    results.verdict = verdict
    display = BenchmarkDisplay(["compare", f"{name} as served", f"{len(traffic.records):,} requests"])
    with display:
        problems = leave(context, results, display)
    if config.mode.promote is not None:
        print(promote_winner(results, config.tracking, config.mode.promote))
    return 1 if problems else 0


def _traffic(name: str, sessions: Sequence[str], tracking: TrackingConfig) -> Traffic:
    found: list[ServedRecord] = []
    weights: dict[str, Weights] = {}
    for session in sessions:
        folder = Path(session)
        if folder.is_dir():
            found += read_served(folder)
            weights |= _weights(folder)
            continue
        with tempfile.TemporaryDirectory() as fetched:
            MlflowTracker(tracking).fetch(session, Path(fetched))
            found += read_served(Path(fetched))
            weights |= _weights(Path(fetched))
    of_name = sorted((record for record in found if record.name == name), key=lambda record: record.time)
    if not of_name:
        others = ", ".join(sorted({record.name for record in found}))
        raise UserInputError(
            f"no split of the requests for {name} was served",
            hint=f"one was of: {others}"
            if others
            else f"POST /models/{name}/split, or server.split=, begins one",
        )
    under = [record for record in of_name if record.shares == of_name[-1].shares]
    return Traffic(under, len(of_name) - len(under), weights)


def _weights(folder: Path) -> dict[str, Weights]:
    """What the server has noted of the weights that answered."""
    try:
        known = msgspec.json.decode((folder / WEIGHTS_NAME).read_bytes(), type=list[Weights])
    except (OSError, msgspec.DecodeError):
        return {}
    return {weights.name: weights for weights in known}


def _model(label: str, traffic: Traffic) -> ModelResult:
    """A version with its figures. Memory and size are not those of a measurement, and are left out."""
    records = [record for record in traffic.records if record.version == label]
    weights = traffic.weights.get(label)
    model = ModelResult(name=label, version=next((r.digest for r in records if r.digest), None))
    if weights is not None:
        model.format, model.method, model.origins = weights.format, weights.method, weights.origins
        model.bits, model.bits_per_weight, model.size_mb = (
            weights.bits,
            weights.bits_per_weight,
            weights.size_mb,
        )
    model.loads = [_load(records)]
    return model


def _load(records: Sequence[ServedRecord]) -> LoadResult:
    """The figures of a version. Its tokens per second depend on the demand and are left out."""
    good = [record for record in records if record.outcome == OK]
    counted = [record for record in records if record.outcome in (OK, FAILED)]
    ends = [record.time + record.e2e_s for record in records]
    gaps = sum(record.gaps for record in good)
    mean_gap = sum(record.gaps_s for record in good) / gaps if gaps else None
    reasons = [reason for record in good for reason in record.finish_reasons]
    return LoadResult(
        shape=Shape("served"),
        requests=len(counted),
        succeeded=len(good),
        success_rate=len(good) / len(counted) if counted else None,
        duration_s=max(ends) - min(record.time for record in records) if records else 0.0,
        ttft_s=summarise(record.ttft_s or None for record in good),
        itl_s=Summary(mean=mean_gap),
        tpot_s=summarise(record.gaps_s / record.gaps if record.gaps else None for record in good),
        e2e_s=summarise(record.e2e_s for record in good),
        prompt_tokens=sum(record.prompt_tokens for record in good),
        cached_tokens=sum(record.cached_tokens for record in good),
        output_tokens=sum(record.output_tokens for record in good),
        cancelled=sum(record.outcome == CANCELLED for record in records),
        finish_reasons={reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
    )
