"""What is known of every request that a model answers. Metrics, traces and the access log read it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...errors import LqmfError
from ...types import GenerationRequest, Usage


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
        own: for the metrics' use.
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

    @property
    def names_a_model(self) -> bool:
        """Whether a model of its name certainly exists. An invented name must be stored nowhere.

        A client that left before the model was asked may have invented it.
        """
        return bool(self.asked) if self.cancelled else self.status != 404


class Observer(Protocol):
    """Called from the event loop, in this order, for every request; must return at once and never raise."""

    def on_start(self, request: ServedRequest) -> None:
        """The request is valid and goes to its model (which may have to be loaded first)."""

    def on_first_token(self, request: ServedRequest) -> None:
        """The first token of its first answer has arrived."""

    def on_chunk(self, request: ServedRequest, n_tokens: int) -> None:
        """Tokens have arrived, the first ones included."""

    def on_end(self, request: ServedRequest) -> None:
        """It has ended: `usage`, `error` or `cancelled` is set."""


class Observers:
    """Several observers, called one after the other."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def on_start(self, request: ServedRequest) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.on_start(request)

    def on_first_token(self, request: ServedRequest) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.on_first_token(request)

    def on_chunk(self, request: ServedRequest, n_tokens: int) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.on_chunk(request, n_tokens)

    def on_end(self, request: ServedRequest) -> None:
        """See `Observer`."""
        for observer in self._observers:
            observer.on_end(request)
