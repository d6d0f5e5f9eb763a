"""Typed decisions of models beside those of the reference, which is asked once and whose answers are kept on disk."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from ...decisions.sets import DecisionSet
from ...engine.client import EngineClient
from ...engine.on_demand import OnDemandEngine, WorkObserver
from ...errors import InvalidRequestError, RemoteEngineError
from ...results.schema import ModelResult
from .decision_flips import Decided, compare_decisions, decide_all
from .store import StoredReference

_LAYOUT = 1  # to be raised when decisions are put to models in other words


@dataclass(frozen=True)
class ReferenceDecisions:
    """What the reference decided. Make it with `reference_decisions`."""

    decisions: DecisionSet
    decided: dict[str, Decided]

    async def measure(self, client: EngineClient, result: ModelResult, observer: WorkObserver) -> None:
        """Fill in `quality.decisions` of a model; a note says why where the model cannot be asked.

        Raises:
            EngineError: the engine was lost, or there is NaN in its logits.
        """
        try:
            decided = await _ask(client, self.decisions, result.name, observer)
        except (InvalidRequestError, RemoteEngineError) as error:
            result.notes.append(f"decisions are not measured: {error.message}")
            return
        found = compare_decisions(self.decisions, decided, self.decided)
        result.quality = msgspec.structs.replace(result.quality, decisions=found)
        summary = f"{found.flip_rate * 100:.1f} % flips  accuracy {found.own.accuracy * 100:.0f} %"
        observer.work_ended(result.name, "decisions", summary)


async def reference_decisions(
    decisions: DecisionSet, stored: StoredReference, engine: OnDemandEngine, observer: WorkObserver
) -> ReferenceDecisions | None:
    """Ask the reference, unless what it says is kept already. None if it cannot be asked, which is told to `observer`.

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
