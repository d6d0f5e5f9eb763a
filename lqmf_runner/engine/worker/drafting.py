"""Chooses the drafter of the decode tokens of a step: the request's own n-grams, otherwise the draft model if there is
one.
"""

from __future__ import annotations

from collections.abc import Sequence

from .request import Generating, Request, Running, decode_span, next_span
from .runners.base import Span
from .speculation.draft_model import MOST_DRAFTING, DraftModel, DraftRequest, ModelDrafter
from .speculation.ngrams import NgramDrafter, Outcomes
from .speculation.step_costs import StepCosts

_LEAST_REST = (
    64  # tokens that an answer is expected to have still, if it may; a long one goes on as long again
)


class Drafting:
    """Makes the spans of decode tokens.

    Args:
        n_batch: tokens in a step.
        enabled: whether there are drafts at all.
        draft_model: drafts where n-grams do not.
        costs: of steps of the model that verifies the drafts.
    """

    def __init__(
        self,
        n_batch: int,
        *,
        enabled: bool = True,
        draft_model: DraftModel | None = None,
        costs: StepCosts | None = None,
    ) -> None:
        self.enabled = enabled
        self.draft_model = draft_model if enabled else None
        self._n_batch = n_batch
        self._costs = costs or StepCosts()
        self._outcomes = Outcomes()

    def spans(self, decoding: Sequence[Running], n_requests: int) -> list[Span]:
        """The spans of decoding requests, in their order.

        Args:
            n_requests: that run or wait; with many of them a step is full without drafts.
        """
        if not decoding or not self.enabled or n_requests > MOST_DRAFTING:
            return [next_span(running, 1) for running in decoding]
        room = self._n_batch // len(decoding) - 1
        drafts: list[Sequence[int]] = []
        n_drafted = 0
        for running in decoding:
            most = min(room, _left(running.request))
            running.drafter = running.ngrams
            draft = running.ngrams.propose(
                running.request.tokens, most, len(decoding), self._costs, n_drafted
            )
            n_drafted += len(draft)
            drafts.append(draft)
        # While a prompt is computed or waits, it would have to wait for the draft model too.
        if self.draft_model is not None and n_requests == len(decoding):
            self._ask_model(self.draft_model, decoding, drafts, room)
        return [decode_span(running, draft) for running, draft in zip(decoding, drafts, strict=True)]

    def _ask_model(
        self, model: DraftModel, decoding: Sequence[Running], drafts: list[Sequence[int]], room: int
    ) -> None:
        """Add drafts of the draft model for requests that have none."""
        asked: dict[int, DraftRequest] = {}
        for index, running in enumerate(decoding):
            request = running.request
            if not drafts[index] and running.model_drafter is not None and isinstance(request, Generating):
                left = _left(request)
                rest = min(left, max(_LEAST_REST, request.n_generated))
                asked[index] = DraftRequest(running.model_drafter, request.tokens, min(room, left), rest)
        found = model.propose([*asked.values()], len(decoding) + sum(map(len, drafts)), self._costs)
        for (index, of), draft in zip(asked.items(), found, strict=True):
            drafts[index], decoding[index].drafter = draft, of.drafter

    def drafters(self) -> tuple[NgramDrafter, ModelDrafter | None]:
        """Those of a new request."""
        model = self.draft_model
        return NgramDrafter(self._outcomes), None if model is None else model.drafter()

    def leave(self, running: Running) -> None:
        """A request has ended."""
        if self.draft_model is not None and running.model_drafter is not None:
            self.draft_model.leave(running.model_drafter)

    def reset(self) -> None:
        """Drop what the draft model holds of requests that have ended."""
        if self.draft_model is not None:
            self.draft_model.reset()

    def note(self, n_rows: int, seconds: float) -> None:
        """Learn the cost of a step over decode tokens and drafts, without the time of drafting."""
        if self.enabled:
            self._costs.note(n_rows, seconds)

    @property
    def seconds(self) -> float:
        """Time of the draft model since the load."""
        return 0.0 if self.draft_model is None else self.draft_model.seconds

    @property
    def failures(self) -> int:
        """Drafts that the draft model could not make since the load."""
        return 0 if self.draft_model is None else self.draft_model.failures


def _left(request: Request) -> int:
    """Most tokens of a draft: what the answer may still have, less the one that a step gives anyway."""
    return request.max_tokens - request.n_generated - 1 if isinstance(request, Generating) else 0
