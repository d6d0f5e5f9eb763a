"""A verdict promotes: the winner of a comparison gets an alias, if it beats the version that has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...config import TrackingConfig
from ...models.registered import WeightsVersion, registry_name, split_reference
from ...results.schema import ModelResult, Results
from ...tracking.versions import AliasChange, change_alias, read_versions


@dataclass(frozen=True)
class Decision:
    """Whether the winner is promoted, and why. `change` is what to do about it; None: nothing."""

    text: str
    change: AliasChange | None = None


def promote_winner(results: Results, tracking: TrackingConfig, promote: str) -> str:
    """Give the alias `promote` to the winner if it deserves it; returns what was done, and why.

    Args:
        promote: an alias of the winner's own name, "champion", or of another name, "chat@champion".

    Raises:
        ConflictError: somebody else has moved the alias meanwhile.
        TrackingError: MLflow cannot be reached.
    """
    decision = decide(results, read_versions(tracking), promote)
    if decision.change is None:
        return f"not promoted: {decision.text}"
    state = change_alias(tracking, decision.change)
    before = f", before {decision.change.name}@{state.previous}" if state.previous else ""
    return f"promoted: {decision.change.name}@{state.number} is {decision.change.alias} now{before}; {decision.text}"


def decide(results: Results, versions: Sequence[WeightsVersion], promote: str) -> Decision:
    """What the verdict means for the alias. Nothing is changed.

    The winner must qualify, and the version that has the alias must have been measured beside it and be beaten by more
    than noise. A verdict in doubt moves nothing.
    """
    verdict = results.verdict
    winner = next((m for m in results.models if verdict and m.name == verdict.winner), None)
    if verdict is None or winner is None:
        return Decision(verdict.headline if verdict else "no model qualifies")
    measured = _registered(winner, versions)
    if measured is None:
        return Decision(f"{winner.name} has no version in MLflow; was this run sent there?")
    name, alias = split_reference(promote) or (measured.name, promote)
    own = [version for version in versions if version.name == registry_name(name)]
    held = next((version for version in own if version.weights.digest == winner.version), None)
    present = next((version for version in own if alias in version.aliases), None)
    if present is not None and present == held:
        return Decision(f"{present.label}, which is {alias}, is the winner again")
    if verdict.doubts:
        return Decision(verdict.doubts[0])
    reason = "there was none before" if present is None else _beaten(present, winner, results)
    if reason is None:
        assert present is not None
        return Decision(_why_not(present, winner, alias, results))
    change = AliasChange(
        name=name,
        alias=alias,
        number=held.number if held else None,
        source="" if held else measured.label,
        expected=present.number if present else None,
        note=f"{reason}: {verdict.headline}",
    )
    return Decision(reason, change)


def _registered(winner: ModelResult, versions: Sequence[WeightsVersion]) -> WeightsVersion | None:
    """The version that the winner is: that of its name, else any with the same weights."""
    same = [version for version in versions if version.weights.digest == winner.version]
    names = (registry_name(winner.name), registry_name(winner.name.partition("@")[0]))
    return next((version for version in same if version.name in names), same[0] if same else None)


def _beaten(present: WeightsVersion, winner: ModelResult, results: Results) -> str | None:
    """How the winner beats the present version; None where it does not, or where that is not known."""
    model = _measured(present, results)
    verdict = results.verdict
    assert verdict is not None
    if model is None or model.error is not None or model.name in verdict.ties:
        return None
    judged = next((each for each in verdict.models if each.name == model.name), None)
    if judged is None:
        return None
    if not judged.qualifies:
        return f"{present.label} does not qualify ({judged.why})"
    return f"it beats {present.label} by more than noise" if judged.rank is not None else None


def _why_not(present: WeightsVersion, winner: ModelResult, alias: str, results: Results) -> str:
    model = _measured(present, results)
    if model is None:
        return (
            f"{present.label}, which is {alias}, was not measured beside {winner.name}; "
            f"add {present.name}@{alias} to models"
        )
    if model.error is not None:
        return f"{present.label}, which is {alias}, could not be measured ({model.error})"
    if results.verdict is not None and model.name in results.verdict.ties:
        return f"{winner.name} does not beat {present.label} by more than noise"
    return f"{present.label}, which is {alias}, lacks a figure of the ranking"


def _measured(version: WeightsVersion, results: Results) -> ModelResult | None:
    return next((model for model in results.models if model.version == version.weights.digest), None)
