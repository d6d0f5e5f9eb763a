"""The registry of versions as a server sees it: read in a child process, and cached."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence

from ...config import TrackingConfig
from ...errors import TrackingError, UnavailableError
from ...models.registered import WeightsVersion
from ...tracking.versions import AliasChange, AliasState, change_alias, read_versions

log = logging.getLogger(__name__)

FRESH_S = 30.0
TIMEOUT_S = 60  # a child process that imports MLflow, on a busy machine


class Registry:
    """All versions that there are, and their aliases.

    Args:
        read, change: reach MLflow; replaced in tests.
    """

    def __init__(
        self,
        tracking: TrackingConfig,
        *,
        read: Callable[..., Sequence[WeightsVersion]] = read_versions,
        change: Callable[..., AliasState] = change_alias,
    ) -> None:
        self._tracking = tracking
        self._read = read
        self._change = change
        self._known: Sequence[WeightsVersion] | None = None
        # Times at which a reading that succeeded began, any reading began, and a change of our own ended.
        self._read_at = self._tried_at = self._changed_at = -math.inf
        self._reading = asyncio.Lock()

    async def versions(self, *, fresh: bool = False) -> Sequence[WeightsVersion]:
        """All versions, at most `FRESH_S` old, or `fresh`: read after the call. Concurrent callers share one reading.

        Raises:
            UnavailableError: the registry cannot be read, and never could, or it must be fresh.
        """
        asked_at = time.monotonic()
        async with self._reading:
            known, began = self._known, time.monotonic()
            if fresh:
                believed = self._read_at >= asked_at
            else:  # a reading that began before a change may lack it
                believed = began - FRESH_S < self._tried_at > self._changed_at
            if believed and known is not None:
                return known
            if believed and not fresh:  # the reading failed a moment ago, and none has succeeded before
                raise _cannot_be_read()
            self._tried_at = began
            try:
                self._known = known = await asyncio.to_thread(self._read, self._tracking, timeout_s=TIMEOUT_S)
                self._read_at = began
            except TrackingError as error:
                log.error("the versions of models cannot be read: %s", error)
                if fresh or known is None:
                    raise _cannot_be_read() from None
            return known

    async def change(self, change: AliasChange) -> AliasState:
        """Make the change, and read the versions again at their next use.

        An error may come although the change was made, because the answer was lost. So the alias is looked up then.

        Raises:
            ConflictError: somebody else has moved the alias.
            UnavailableError: the registry cannot be reached. The message says where the alias is, or that this is not
                known.
        """
        try:
            return await asyncio.to_thread(self._change, self._tracking, change, timeout_s=TIMEOUT_S)
        except TrackingError as error:
            log.error("the alias %s of %s cannot be changed: %s", change.alias, change.name, error)
        finally:
            self._changed_at = time.monotonic()
        return await self._after_an_error(change)

    async def _after_an_error(self, change: AliasChange) -> AliasState:
        alias = f"{change.alias} of {change.name}"
        try:
            versions = await self.versions(fresh=True)
        except UnavailableError:
            raise UnavailableError(
                f"the registry of versions cannot be reached now; it is not known whether {alias} was moved",
                hint="mode=versions shows where it is, once the registry answers; this server goes on as before",
            ) from None
        on = next((v.number for v in versions if v.name == change.name and change.alias in v.aliases), None)
        if on == change.number:
            return AliasState(on, None)
        where = "on no version" if on is None else f"on {change.name}@{on}"
        raise UnavailableError(
            f"the registry of versions refused or did not answer; {alias} is {where}",
            hint="the server's log says why",
        )


def _cannot_be_read() -> UnavailableError:
    return UnavailableError(
        "the versions of models cannot be looked up now", hint="the server's log says why"
    )
