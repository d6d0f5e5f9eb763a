"""The replicas that one request was tried at, and whether it may be tried at another one."""

from __future__ import annotations

from typing import NamedTuple

from ...errors import (
    EndpointLostError,
    EndpointUnavailableError,
    EngineLostError,
    LqmfError,
    QueueFullError,
    RemoteEngineError,
)
from ..client import EngineClient
from .fleet import Fleet
from .replica import Replica

MOST_LOST = 5
"""A request is taken for the cause when so many replicas were lost one after the other while they had it."""
MOST_FAILED = 2
"""A request that fails without a loss is tried at so many replicas; those that are busy do not count."""

LOST = (EngineLostError, EndpointLostError)
BUSY = (QueueFullError, EndpointUnavailableError)
ELSEWHERE = (*LOST, *BUSY, RemoteEngineError)
"""Errors of a replica after which a request that has sent nothing may be tried at another one."""


class Chosen(NamedTuple):
    """A replica for a request, its engine, and how many tokens of the prompt it holds."""

    replica: Replica
    engine: EngineClient
    held: int


class Attempts:
    """What has become of one request so far."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._failed: list[tuple[Chosen, LqmfError]] = []

    @property
    def failed(self) -> list[EngineClient]:
        """The engines that failed the request."""
        return [chosen.engine for chosen, _ in self._failed]

    def answered(self) -> None:
        """A replica answers, so that those that did not are at fault. One that was busy is not."""
        for chosen, error in self._failed:
            if not isinstance(error, BUSY):
                self._fleet.lost(chosen.replica, chosen.engine, error)

    def fail(self, chosen: Chosen, error: LqmfError, *, begun: bool = False) -> None:
        """Returns if the request may be tried elsewhere.

        Args:
            begun: a part of the answer has been sent.

        Raises:
            LqmfError: it may not.
        """
        fleet, lost = self._fleet, isinstance(error, LOST)
        if lost:
            fleet.lost(chosen.replica, chosen.engine, error)
        elif isinstance(error, BUSY):
            chosen.replica.rest(fleet.now, error.retry_after_s)
        if begun and lost and not fleet.closed:
            raise type(error)(
                f"replica {chosen.replica.number} of '{fleet.name}' was lost in the middle of the answer: "
                f"{error.message}",
                hint="send the request again; the other replicas go on",
            ) from error
        if begun or fleet.closed:
            raise error
        self._failed.append((chosen, error))
        losses, refusals = (sum(isinstance(each, kind) for _, each in self._failed) for kind in (LOST, BUSY))
        if losses >= MOST_LOST:
            raise type(error)(
                f"{losses} replicas of '{fleet.name}' were lost one after the other while they had this request; "
                f"the last: {error.message}",
                hint="it may be the cause: do not send it again before that is known",
            ) from error
        if len(self._failed) - losses - refusals >= MOST_FAILED:
            raise error
        if refusals and not lost and not self._others_are_left():
            raise self._all_busy()

    def _others_are_left(self) -> bool:
        """Whether a replica is there or comes that has not failed the request."""
        return self._fleet.starting or any(each.engine not in self.failed for each in self._fleet.ready)

    def _all_busy(self) -> LqmfError:
        """The error of the replica that can be asked again first."""
        busy = [error for _, error in self._failed if isinstance(error, BUSY)]
        first = min(busy, key=lambda error: error.retry_after_s or 0.0)
        if len(busy) == 1:
            return first
        return type(first)(
            f"{len(busy)} replicas of '{self._fleet.name}' are busy; the one that is free first: {first.message}",
            hint=first.hint,
            retry_after_s=first.retry_after_s,
        )
