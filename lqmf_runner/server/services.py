"""What handlers work with."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, cast

from litestar import Request

from ..config import ServerConfig
from .answers.sessions import Sessions
from .guards.keys import ApiKey
from .pool.pool import ModelPool
from .watch.observe import Observer


@dataclass
class Readiness:
    """What /ready answers: ready unless something holds it up.

    Attributes:
        waiting_for: models of the start that are not loaded yet.
        draining: no new requests are taken.
    """

    waiting_for: set[str] = field(default_factory=set)
    draining: bool = False

    def reason(self) -> str:
        """Why not; empty when ready."""
        if self.draining:
            return "the server is draining"
        if self.waiting_for:
            return f"loading {', '.join(sorted(self.waiting_for))}"
        return ""


@dataclass(frozen=True)
class Services:
    """One per application, in its state."""

    config: ServerConfig
    pool: ModelPool
    observer: Observer
    readiness: Readiness
    sessions: Sessions
    started_at: float = field(default_factory=time.time)


def services_of(request: Request[Any, Any, Any]) -> Services:
    """Those of the application that handles the request."""
    return cast(Services, request.app.state["services"])


def identity(request: Request[Any, Any, Any]) -> str:
    """Whose request it is: the hash of its key, empty where there are no keys.

    What belongs to one key must not be seen by another.
    """
    key: ApiKey | None = request.scope["state"].get("api_key")
    return key.sha256 if key is not None else ""
