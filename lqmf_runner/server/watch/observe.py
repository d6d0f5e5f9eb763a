"""What is known of every request that a model answers. Metrics, traces and the access log read it."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...errors import LqmfError
from ...types import GenerationRequest, ModelInfo, ModelSpec, Usage
from ..asgi import header


@dataclass(slots=True)
class ServedRequest:
    """One request for an answer, from the moment its body was read.

    Attributes:
        route: the path template, e.g. "/v1/chat/completions".
        model: the name the client gave.
        streaming: whether the answer is sent as it comes.
        n: answers asked for.
        scope: the ASGI scope (client, headers, `state`).
        began, first_token, ended: `time.perf_counter()` values; 0 until then.
        tokens: generated so far, of all answers.
        usage: of all answers together, once the last has ended.
        status: HTTP status of the answer; of an error in mid-stream, the one it would have had.
        error: what it failed with.
        cancelled: the client went away before the end.
        asked: what the engine was asked, once it was.
        counted: whether it is in the metrics. A request for a model that does not exist is not.
        texts: of the answers, by their index, where an observer wants them; None: nobody does.
        own: when chunks came, and of how many tokens; kept by the metrics.
        target: name of the model in the pool that answers, which may be a version of `model`; empty until it is known.
        shares: of the models behind `model` when that was decided.
        finish_reasons: of the answers that have ended.
        held: the model that answers and what it is, once it is held.
        session: which requests belong together, where the client says so.
    """

    route: str
    model: str
    streaming: bool
    n: int
    scope: Any
    began: float = field(default_factory=time.perf_counter)
    first_token: float = 0.0
    ended: float = 0.0
    tokens: int = 0
    usage: Usage | None = None
    status: int = 200
    error: LqmfError | None = None
    cancelled: bool = False
    asked: Sequence[GenerationRequest] = ()
    counted: bool = False
    texts: defaultdict[int, list[str]] | None = None
    own: Any = None
    target: str = ""
    shares: Mapping[str, float] = field(default_factory=dict)
    finish_reasons: list[str] = field(default_factory=list)
    held: tuple[ModelSpec, ModelInfo] | None = None
    session: str = ""

    @property
    def answering(self) -> str:
        """What it is counted under: the model that answers, or the name that the client gave."""
        return self.target or self.model

    @property
    def version(self) -> str:
        """`name@3` of a version in the registry, else the digest of the weights.

        Empty until they are held, and where it is not known.
        """
        if self.held is None:
            return ""
        return self.target if "@" in self.target else self.held[0].version

    @property
    def stick(self) -> str:
        """Requests with the same one get the same version: the session's, else the key's, else its own."""
        state = self.scope.get("state", {})
        given = self.session or (header(self.scope, b"x-session-id") or b"").decode("latin-1")
        key = state.get("api_key")
        if given or key:
            return f"{key.sha256 if key else ''} {given}"
        return state.get("request_id") or f"{random.getrandbits(64)}"

    @property
    def names_a_model(self) -> bool:
        """Whether a model of its name certainly exists. An invented name must be stored nowhere.

        A client that left before the model was asked may have invented it.
        """
        return bool(self.asked) if self.cancelled else self.status != 404


class Watcher(Protocol):
    """Called from the event loop, in this order, for every request; must return at once and never raise."""

    def on_start(self, request: ServedRequest) -> None:
        """The request is valid and goes to its model (which may have to be loaded first)."""

    def on_first_token(self, request: ServedRequest) -> None:
        """The first token of its first answer has arrived."""

    def on_end(self, request: ServedRequest) -> None:
        """It has ended: `usage`, `error` or `cancelled` is set."""


class Observer(Watcher, Protocol):
    """A watcher that sees every chunk too."""

    def on_chunk(self, request: ServedRequest, n_tokens: int) -> None:
        """Tokens have arrived, the first ones included."""


class Observers:
    """An observer and watchers, called one after the other. A token costs the call of the observer alone."""

    def __init__(self, first: Observer, *others: Watcher) -> None:
        self._all = (first, *others)
        self.on_chunk = first.on_chunk

    def on_start(self, request: ServedRequest) -> None:
        """See `Watcher`."""
        for watcher in self._all:
            watcher.on_start(request)

    def on_first_token(self, request: ServedRequest) -> None:
        """See `Watcher`."""
        for watcher in self._all:
            watcher.on_first_token(request)

    def on_end(self, request: ServedRequest) -> None:
        """See `Watcher`."""
        for watcher in self._all:
            watcher.on_end(request)
