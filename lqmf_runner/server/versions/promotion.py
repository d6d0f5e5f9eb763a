"""Another version takes over without a dropped request.

The new version is loaded beside the old one. When it is ready and the registry has the change, new requests go to it.
The old one is unloaded when its last request has ended. If anything fails on the way, this server goes on as before.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from ...errors import ConflictError, UserInputError
from ...models.registered import CHAMPION, WeightsVersion, choose, registry_name
from ...tracking.versions import AliasChange
from ..pool.pool import ModelPool
from .registry import Registry
from .traffic import Traffic


@dataclass(frozen=True)
class Takeover:
    """The models that answer a name now, and those before; each with its share."""

    name: str
    now: Mapping[str, float]
    before: Mapping[str, float]


class Promotions:
    """Promotes, rolls back and splits.

    Args:
        registry: None where nothing is tracked; then there are no versions.
    """

    def __init__(self, pool: ModelPool, traffic: Traffic, registry: Registry | None) -> None:
        self._pool = pool
        self._traffic = traffic
        self._registry = registry
        self._under_way: set[str] = set()

    async def promote(self, name: str, which: str) -> Takeover:
        """Make a version the champion, and let it answer the name.

        Raises:
            ModelNotFoundError: there is no such version, or its files are gone or have changed.
            ConflictError: another promotion is under way, here or in another server that was faster.
            DoesNotFitError: it does not fit beside the present one.
            UnavailableError: the registry cannot be reached.
        """
        async with self._alone(name):
            versions = await self._versions(fresh=True)
            return await self._crown(name, choose(versions, name, which), versions, f"POST to {which}")

    async def rollback(self, name: str) -> Takeover:
        """Let the champion before the present one answer the name again; raises like `promote`."""
        async with self._alone(name):
            versions = await self._versions(fresh=True)
            before = [v for v in _own(versions, name) if CHAMPION in v.was]
            if not before:
                raise ConflictError(
                    f"{name} had no other {CHAMPION} to go back to", hint="promote a version instead"
                )
            return await self._crown(name, before[0], versions, "rollback")

    async def split(self, name: str, shares: Mapping[str, float]) -> Takeover:
        """Let several versions answer the name, each its share; raises like `promote`.

        Args:
            shares: by the number or the alias of a version.
        """
        if not shares or any(not 0 <= share < float("inf") for share in shares.values()):
            raise UserInputError("shares are numbers from 0 on, by version")
        if not sum(shares.values()) > 0:
            raise UserInputError("all shares are 0", hint="give one version more")
        async with self._alone(name):
            versions = await self._versions(fresh=True)
            wanted: dict[str, float] = {}
            for which, share in shares.items():
                label = choose(versions, name, which).label
                wanted[label] = wanted.get(label, 0.0) + share
            wanted = {label: share for label, share in wanted.items() if share > 0}
            async with self._loaded(name, list(wanted)):
                pass
            return self._direct(name, wanted)

    async def _crown(
        self, name: str, version: WeightsVersion, versions: Sequence[WeightsVersion], note: str
    ) -> Takeover:
        assert self._registry is not None
        present = next((v.number for v in _own(versions, name) if CHAMPION in v.aliases), None)
        change = AliasChange(
            name=version.name, alias=CHAMPION, number=version.number, expected=present, note=note
        )
        await self._pool.catalog.find(version.label)  # one that is loaded may have lost its files meanwhile
        async with self._loaded(name, [version.label]):
            await self._registry.change(change)
        return self._direct(name, {version.label: 1.0})

    @contextlib.asynccontextmanager
    async def _loaded(self, name: str, labels: Sequence[str]) -> AsyncIterator[None]:
        """Load these beside the models that answer the name. If the block fails, the new ones are unloaded."""
        old = [model for label in self._traffic.behind(name) if (model := self._pool.get(label)) is not None]
        pinned = any(m.pinned for m in old)
        keep_alive_s = (-1 if old[0].keep_alive_s is None else old[0].keep_alive_s) if old else None
        new = [label for label in labels if self._pool.get(label) is None]
        try:
            with contextlib.ExitStack() as kept:
                kept.enter_context(self._pool.keeping(old))  # so that they are not evicted to make room
                for label in labels:
                    model = await self._pool.load(label, pin=pinned or None, keep_alive_s=keep_alive_s)
                    kept.enter_context(self._pool.keeping([model]))
                yield
        except BaseException:
            for label in new:
                self._pool.retire(label)
            raise

    def _direct(self, name: str, shares: Mapping[str, float]) -> Takeover:
        """Move the traffic, in one step of the event loop."""
        before = self._traffic.behind(name)
        self._traffic.direct(name, shares)
        now = self._traffic.behind(name)
        still = {label for shares in self._traffic.names.values() for label in shares}
        for label in before:
            if label not in still:
                self._pool.retire(label)
        return Takeover(name, now, before)

    async def _versions(self, *, fresh: bool) -> Sequence[WeightsVersion]:
        if self._registry is None:
            raise UserInputError(
                "versions are kept in MLflow's registry, and this server was started with tracking=none",
                hint="start it without tracking=none",
            )
        return await self._registry.versions(fresh=fresh)

    @contextlib.asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        if name in self._under_way:
            raise ConflictError(
                f"another version of {name} is being put in place already", hint="try again when that is done"
            )
        self._under_way.add(name)
        try:
            yield
        finally:
            self._under_way.discard(name)


def _own(versions: Sequence[WeightsVersion], name: str) -> list[WeightsVersion]:
    return [version for version in versions if version.name == registry_name(name)]
