"""Typed decisions: how often a model decides differently from the reference, and how well each is calibrated.

Nothing is generated. Each decision is a distribution over its options, taken from the next-token probabilities
(`decisions.decide`). A flip is therefore a decision that really changed, and smaller shifts are measured too. The
reference is asked once, and its decisions are kept on disk.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from ...concurrent import for_each
from ...decisions.decide import decide
from ...decisions.sets import DecisionSet, KnownDecision
from ...engine.client import EngineClient
from ...engine.on_demand import OnDemandEngine, WorkObserver
from ...errors import InvalidRequestError
from ...results.quality import Calibration, DecisionFigures
from ..grading.similarity import standard_error
from .divergence import begin_reproducibly
from .store import StoredReference

BINS = 10
_LAYOUT = 1  # increase it when the wording of the prompts changes


class Decided(msgspec.Struct, frozen=True):
    """A model's answer to a decision: the probability of each option, and of all options together."""

    probabilities: tuple[float, ...]
    label_mass: float

    @property
    def best(self) -> int:
        """Index of the most likely option; the first of those that are equally likely."""
        return self.probabilities.index(max(self.probabilities))


async def decide_all(
    client: EngineClient, decisions: DecisionSet, on_progress: Callable[[int], None] = lambda done: None
) -> dict[str, Decided]:
    """Ask a model for all decisions, by id. No answer depends on the other requests.

    Raises:
        LqmfError: see `decisions.decide.decide`.
    """
    found: dict[str, Decided] = {}

    async def ask(decision: KnownDecision) -> None:
        (answer,) = (await decide(client, decision.text, [decision.question])).answers
        found[decision.id] = Decided(answer.probabilities, answer.label_mass)
        on_progress(len(found))

    await for_each(decisions.decisions, ask, at_a_time=await begin_reproducibly(client))
    return found


def compare_decisions(
    decisions: DecisionSet, own: Mapping[str, Decided], reference: Mapping[str, Decided]
) -> DecisionFigures:
    """Compare a model's decisions with the reference's."""
    flips, distances, lost, gained = [], [], 0, 0
    for decision in decisions.decisions:
        mine, theirs = own[decision.id], reference[decision.id]
        flipped = mine.best != theirs.best
        flips.append(float(flipped))
        lost += flipped and theirs.best == decision.right
        gained += flipped and mine.best == decision.right
        distances.append(_total_variation(mine.probabilities, theirs.probabilities))
    return DecisionFigures(
        set=decisions.name,
        set_digest=decisions.digest,
        decisions=len(flips),
        flip_rate=statistics.fmean(flips),
        flip_rate_se=standard_error(flips),
        distance=statistics.fmean(distances),
        distance_se=standard_error(distances),
        lost=lost,
        gained=gained,
        label_mass=statistics.fmean(decided.label_mass for decided in own.values()),
        own=calibration(decisions, own),
        reference=calibration(decisions, reference),
    )


def calibration(decisions: DecisionSet, decided: Mapping[str, Decided]) -> Calibration:
    """Accuracy, Brier score and expected calibration error of one model."""
    right, confidence, brier = [], [], []
    for decision in decisions.decisions:
        found = decided[decision.id]
        right.append(float(found.best == decision.right))
        confidence.append(max(found.probabilities))
        brier.append(
            math.fsum((p - (option == decision.right)) ** 2 for option, p in enumerate(found.probabilities))
        )
    return Calibration(
        accuracy=statistics.fmean(right),
        accuracy_se=standard_error(right),
        brier=statistics.fmean(brier),
        ece=_calibration_error(right, confidence),
    )


def _calibration_error(right: Sequence[float], confidence: Sequence[float]) -> float:
    hits, sure = np.array(right), np.array(confidence)
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = [abs((hits[bins == b] - sure[bins == b]).sum()) for b in range(BINS)]
    return float(sum(gaps) / len(hits))


def _total_variation(p: Sequence[float], q: Sequence[float]) -> float:
    return math.fsum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2


@dataclass(frozen=True)
class ReferenceDecisions:
    """The reference's decisions. Make it with `reference_decisions`."""

    decisions: DecisionSet
    decided: dict[str, Decided]

    async def compare(self, client: EngineClient, name: str, observer: WorkObserver) -> DecisionFigures:
        """Ask a loaded model for the same decisions. `name` is for the observer.

        Raises:
            InvalidRequestError, RemoteEngineError: the model cannot be asked.
            EngineError: the engine was lost, or there is NaN in its logits.
        """
        found = compare_decisions(
            self.decisions, await _ask(client, self.decisions, name, observer), self.decided
        )
        summary = f"{found.flip_rate * 100:.1f} % flips  accuracy {found.own.accuracy * 100:.0f} %"
        observer.work_ended(name, "decisions", summary)
        return found


async def reference_decisions(
    decisions: DecisionSet, stored: StoredReference, engine: OnDemandEngine, observer: WorkObserver
) -> ReferenceDecisions | None:
    """Ask the reference, unless its answers are stored already. None if it cannot be asked, which is reported to
    `observer`.

    Raises:
        LqmfError: the reference could not be loaded, its engine was lost, or there is NaN in its logits.
    """
    name = f"decisions-{_LAYOUT}-{decisions.digest}"
    decided = stored.recall(name, dict[str, Decided])
    if decided is None:
        reference = stored.record.name
        try:
            decided = await _ask(await engine.client(), decisions, reference, observer)
        except InvalidRequestError as error:
            observer.work_ended(reference, "decisions", f"left out: {error.message}")
            return None
        observer.work_ended(reference, "decisions", f"{len(decided)}")
        stored.keep(name, decided)
    return ReferenceDecisions(decisions, decided)


async def _ask(
    client: EngineClient, decisions: DecisionSet, name: str, observer: WorkObserver
) -> dict[str, Decided]:
    observer.work_started(name, "decisions", len(decisions.decisions))
    return await decide_all(client, decisions, observer.work_advanced)
