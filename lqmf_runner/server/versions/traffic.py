"""Which version answers a request for a name.

A name that no version stands behind is the model of that name. `name@champion` is looked up in the registry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from ...models.registered import WeightsVersion, choose, registry_name, split_reference
from .registry import Registry


class Traffic:
    """The versions behind each name.

    Args:
        registry: knows aliases; None where nothing is tracked.
        start: the shares of each name at the start, see `direct`.
    """

    def __init__(
        self, registry: Registry | None = None, start: Mapping[str, Mapping[str, float]] | None = None
    ) -> None:
        self._registry = registry
        self._shares: dict[str, dict[str, float]] = {}
        for name, shares in (start or {}).items():
            self.direct(name, shares)

    async def target(self, name: str, stick: str = "") -> str:
        """The model of the pool that answers. Nothing is awaited after it is known, so that it cannot be outdated.

        Args:
            stick: requests with the same one get the same version for as long as the shares stay.

        Raises:
            ModelNotFoundError: the name has versions, and this is none of them.
            UnavailableError: the registry cannot be read.
        """
        if shares := self._shares.get(name):
            return _pick(shares, f"{name}\0{stick}")
        parts = split_reference(name)
        if parts is None or self._registry is None:
            return name
        versions = await self._registry.versions()
        if all(version.name != registry_name(parts[0]) for version in versions):
            return name  # a model may be called so
        return choose(versions, *parts).label

    async def targets(self, name: str) -> list[str]:
        """All models of the pool that answer a name; raises like `target`."""
        return list(self._shares.get(name) or [await self.target(name)])

    async def versions(self) -> Sequence[WeightsVersion]:
        """All versions in the registry; none where nothing is tracked.

        Raises:
            UnavailableError: the registry cannot be read.
        """
        return await self._registry.versions() if self._registry is not None else ()

    def behind(self, name: str) -> Mapping[str, float]:
        """The models that answer a name, each with its share of the requests. The shares add up to 1."""
        return self._shares.get(name, {name: 1.0})

    def direct(self, name: str, shares: Mapping[str, float]) -> None:
        """Let these models answer the name from now on, each its share. Only ratios count."""
        total = sum(shares.values())
        self._shares[name] = {label: share / total for label, share in shares.items() if share > 0}

    @property
    def names(self) -> dict[str, dict[str, float]]:
        """All names that versions answer, with the shares."""
        return {name: dict(shares) for name, shares in self._shares.items()}


def _pick(shares: Mapping[str, float], key: str) -> str:
    """One of the models by the hash of the key: the same in every process, and by its share over all keys."""
    if len(shares) == 1:
        return next(iter(shares))
    point = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64
    for label, share in shares.items():
        point -= share
        if point < 0:
            return label
    return label
