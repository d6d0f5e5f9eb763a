"""Which version of a model answers: GET /versions, POST /models/{name}/promote, /rollback and /split."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request

from ...models.registered import newest_first
from ..guards.security import require_admin
from ..route import MODEL, Body, route
from ..state import state_of
from ..versions.promotion import Takeover


class PromoteRequest(msgspec.Struct, kw_only=True):
    """The body of POST /models/{name}/promote: the number or an alias of a version."""

    version: int | str


class SplitRequest(msgspec.Struct, kw_only=True):
    """The body of POST /models/{name}/split: a share for each version, by its number or alias. Only ratios count."""

    split: dict[str, float]


class TakeoverAnswer(msgspec.Struct, kw_only=True):
    """The versions that answer the name now, and those before; each with its share of the requests."""

    name: str
    now: dict[str, float]
    before: dict[str, float]


class ServedVersions(msgspec.Struct):
    """The names that versions answer, each version with its share of the requests."""

    names: dict[str, dict[str, float]]


class AvailableVersion(msgspec.Struct, kw_only=True):
    """A version that a request can name: `name` is `qwen@3`, and `qwen@<alias>` with each of its `aliases`.

    `share`: of the requests for `model` that it answers, 0 to 1. `served_at`: when a server last reported that it
    had answered. `was`: aliases that were on it before.
    """

    name: str
    model: str
    number: int
    aliases: list[str]
    was: list[str]
    format: str
    method: str
    bits: float
    size_mb: float
    version: str
    share: float
    loaded: bool
    served_at: str


class AvailableVersions(msgspec.Struct):
    """All versions in the registry, by model and the newest first; empty if tracking is off."""

    versions: list[AvailableVersion]


@route("GET", "/versions", tag="Models")
async def served_versions(request: Request[Any, Any, Any]) -> ServedVersions:
    """Which versions answer which names."""
    return ServedVersions(state_of(request).traffic.names)


@route("GET", "/versions/available", tag="Models")
async def available_versions(request: Request[Any, Any, Any]) -> AvailableVersions:
    """All versions that a request can name, as they were in the registry at most half a minute ago."""
    state = state_of(request)
    found = []
    for version in newest_first(await state.traffic.versions()):
        weights = version.weights
        shares = state.traffic.names.get(weights.name, {})
        found.append(
            AvailableVersion(
                name=version.label,
                model=weights.name,
                number=version.number,
                aliases=version.aliases,
                was=version.was,
                format=weights.format,
                method=weights.method,
                bits=weights.bits,
                size_mb=round(weights.size_mb, 1),
                version=weights.digest,
                share=shares.get(version.label, 0.0),
                loaded=state.pool.get(version.label) is not None,
                served_at=version.served_at,
            )
        )
    return AvailableVersions(found)


@route(
    "POST",
    "/models/{name:str}/promote",
    tag="Models",
    body=Body(PromoteRequest, {"A version": {"version": 4}, "An alias": {"version": "candidate"}}),
    parameters={"name": MODEL},
    guards=[require_admin],
)
async def promote_model(name: str, data: PromoteRequest, request: Request[Any, Any, Any]) -> TakeoverAnswer:
    """Make a version the champion. It is loaded beside the present one and replaces it. The present one ends when it is
    idle.
    """
    return _answer(await state_of(request).promotions.promote(name, str(data.version)))


@route(
    "POST",
    "/models/{name:str}/rollback",
    tag="Models",
    parameters={"name": MODEL},
    guards=[require_admin],
)
async def rollback_model(name: str, request: Request[Any, Any, Any]) -> TakeoverAnswer:
    """Make the champion before the present one the champion again, in the same way."""
    return _answer(await state_of(request).promotions.rollback(name))


@route(
    "POST",
    "/models/{name:str}/split",
    tag="Models",
    body=Body(SplitRequest, {"One in ten": {"split": {"champion": 90, "candidate": 10}}}),
    parameters={"name": MODEL},
    guards=[require_admin],
)
async def split_model(name: str, data: SplitRequest, request: Request[Any, Any, Any]) -> TakeoverAnswer:
    """Let several versions answer the name. Aliases are resolved now and do not move."""
    return _answer(await state_of(request).promotions.split(name, data.split))


def _answer(takeover: Takeover) -> TakeoverAnswer:
    return TakeoverAnswer(name=takeover.name, now=dict(takeover.now), before=dict(takeover.before))
