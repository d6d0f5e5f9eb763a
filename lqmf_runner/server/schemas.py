"""What the native routes take and give. Sizes in MB are 10^6 bytes, times are seconds, dates ISO 8601."""

from __future__ import annotations

from datetime import datetime

import msgspec


class LoadedModel(msgspec.Struct, kw_only=True):
    """A model that is loaded or being loaded.

    `state`: "loading", "ready", "restarting" (after a crash). `fraction` of the load that is done, 0 to 1.
    """

    name: str
    format: str
    method: str
    bits: float
    state: str
    fraction: float
    memory_mb: float
    loaded_at: datetime | None
    last_used: datetime
    requests: int
    active: int
    tokens_per_second: float
    pinned: bool


class LoadedModels(msgspec.Struct):
    """All of them, the memory they use, and the limits."""

    models: list[LoadedModel]
    memory_mb: float
    max_memory_mb: float
    max_models: int


class AvailableModel(msgspec.Struct, kw_only=True):
    """A model that is there. `problem` says why it cannot be used; empty when it can."""

    name: str
    format: str
    method: str
    bits: float
    size_mb: float
    version: str
    loaded: bool
    problem: str


class AvailableModels(msgspec.Struct):
    """All that can be named in a request."""

    models: list[AvailableModel]


class ServerStatus(msgspec.Struct):
    """The server at a glance."""

    status: str
    name: str
    version: str
    uptime: float
    loaded_models: list[str]


class Health(msgspec.Struct):
    """`status` is "ok"."""

    status: str


class Readiness(msgspec.Struct):
    """`status` is "ready"."""

    status: str
    models: dict[str, str]
