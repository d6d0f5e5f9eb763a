"""Counts of what the server has done, for `/metrics`, `/stats` and tracking.

A token costs one append to its request's list. The buckets are computed when the request ends.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from ... import __version__
from ...results.served import CANCELLED, FAILED, OK, REFUSED
from ...types import ModelInfo, ModelSpec, PromptCacheUse, ReplicaState
from .histogram import Histogram
from .observe import ServedRequest

# Seconds; narrow where users notice a difference.
TTFT_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ITL_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5)
DURATION_BOUNDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


class LoadedModel(Protocol):
    """What the metrics read of a model in the pool."""

    @property
    def name(self) -> str:
        """What requests call it."""

    @property
    def state(self) -> str:
        """Loading, ready or restarting."""

    @property
    def replicas(self) -> list[ReplicaState]:
        """The engines that its requests are spread over; none where it is one engine."""

    @property
    def memory_mb(self) -> float:
        """The memory that counts for this name."""

    @property
    def prompt_cache(self) -> PromptCacheUse:
        """The prompts that its engine keeps in main memory."""


@dataclass
class ModelMetrics:
    """Of one model since the server's start; times in seconds, as the server sees them.

    Attributes:
        outcomes: requests by how they ended: ok, failed (5xx), refused (4xx), cancelled (the client left).
        queue_s: from arrival at the model's worker to the first step that worked on the request.
    """

    ttft_s: Histogram = field(default_factory=lambda: Histogram(TTFT_BOUNDS))
    itl_s: Histogram = field(default_factory=lambda: Histogram(ITL_BOUNDS))
    queue_s: Histogram = field(default_factory=lambda: Histogram(TTFT_BOUNDS))
    duration_s: Histogram = field(default_factory=lambda: Histogram(DURATION_BOUNDS))
    outcomes: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    draft_model_drafted_tokens: int = 0
    draft_model_accepted_tokens: int = 0


class Metrics:
    """Counts what it observes; see `observe.Observer`.

    Attributes:
        models: gives the models that are loaded or being loaded.
        by_model: what was counted, by the model's name.
        answered: the weights that have answered, by the model's name and their digest.
        responses: HTTP responses by method and status; status 0 is a connection that broke off before one.
    """

    def __init__(self, models: Callable[[], Iterable[LoadedModel]] = tuple) -> None:
        self.models = models
        self.started_at = time.time()
        self.by_model: dict[str, ModelMetrics] = defaultdict(ModelMetrics)
        self.answered: dict[tuple[str, str], tuple[ModelSpec, ModelInfo]] = {}
        self._active: dict[int, ServedRequest] = {}
        self.responses: Counter[tuple[str, int]] = Counter()

    def on_start(self, request: ServedRequest) -> None:
        """See `observe.Observer`."""
        request.own = []
        self._active[id(request)] = request

    def on_first_token(self, request: ServedRequest) -> None:
        """See `observe.Observer`."""

    def on_chunk(self, request: ServedRequest, n_tokens: int) -> None:
        """See `observe.Observer`."""
        request.own.append((time.perf_counter(), n_tokens))

    def on_end(self, request: ServedRequest) -> None:
        """See `observe.Observer`."""
        self._active.pop(id(request), None)
        if not (request.names_a_model or (request.cancelled and self._knows(request.answering))):
            return
        model = self.by_model[request.answering]
        if request.held is not None and request.held[0].version:
            self.answered[request.answering, request.held[0].version] = request.held
        model.outcomes[outcome(request)] += 1
        model.output_tokens += request.tokens
        model.duration_s.add((request.ended - request.began,))
        if request.first_token:
            model.ttft_s.add((request.first_token - request.began,))
        if request.n == 1:  # chunks of several answers cannot be distinguished
            model.itl_s.add(_gaps(request.own))
        if usage := request.usage:
            model.prompt_tokens += usage.prompt_tokens
            model.cached_tokens += usage.cached_tokens
            model.drafted_tokens += usage.drafted_tokens
            model.accepted_tokens += usage.accepted_tokens
            model.draft_model_drafted_tokens += usage.draft_model_drafted_tokens
            model.draft_model_accepted_tokens += usage.draft_model_accepted_tokens
            model.queue_s.add((usage.queue_s,))
        request.counted = True

    def _knows(self, name: str) -> bool:
        """Whether a model of this name was asked before, or is loaded or being loaded."""
        return name in self.by_model or any(model.name == name for model in self.models())

    def count_response(self, method: str, status: int) -> None:
        """Count an HTTP response."""
        self.responses[method, status] += 1

    @property
    def uptime_s(self) -> float:
        """Seconds since the server's start."""
        return time.time() - self.started_at

    def stats(self) -> dict[str, Any]:
        """The counts as plain values, for JSON. Times are in seconds; quantiles are estimated from the buckets."""
        running, waiting = self.running_and_waiting()
        loaded = {model.name: model for model in self.models()}
        models = {}
        for name in sorted({*loaded, *self.by_model}):
            model, counted = loaded.get(name), self.by_model.get(name) or ModelMetrics()
            models[name] = {
                "state": model.state if model else "unloaded",
                "memory_mb": round(model.memory_mb, 1) if model else 0.0,
                "prompt_cache": msgspec.structs.asdict(model.prompt_cache if model else PromptCacheUse()),
                "replicas": [msgspec.to_builtins(replica) for replica in model.replicas] if model else [],
                "running": running[name],
                "waiting": waiting[name],
                "requests": {
                    outcome: counted.outcomes[outcome] for outcome in (OK, FAILED, REFUSED, CANCELLED)
                },
                "prompt_tokens": counted.prompt_tokens,
                "cached_tokens": counted.cached_tokens,
                "output_tokens": counted.output_tokens,
                "drafted_tokens": counted.drafted_tokens,
                "accepted_tokens": counted.accepted_tokens,
                "draft_model_drafted_tokens": counted.draft_model_drafted_tokens,
                "draft_model_accepted_tokens": counted.draft_model_accepted_tokens,
                **{
                    name: _summary(getattr(counted, name))
                    for name in ("ttft_s", "itl_s", "queue_s", "duration_s")
                },
            }
        responses: Counter[str] = Counter()
        for (_, status), n in self.responses.items():
            responses[str(status)] += n
        return {
            "version": __version__,
            "uptime_s": round(self.uptime_s, 1),
            "running": sum(running.values()),
            "waiting": sum(waiting.values()),
            "requests": sum(sum(model.outcomes.values()) for model in self.by_model.values()),
            "output_tokens": sum(model.output_tokens for model in self.by_model.values()),
            "memory_mb": round(sum(model.memory_mb for model in loaded.values()), 1),
            "responses": dict(sorted(responses.items())),
            "models": models,
        }

    def running_and_waiting(self) -> tuple[Counter[str], Counter[str]]:
        """Requests by model: those that have a token, and those that have none yet."""
        running: Counter[str] = Counter()
        waiting: Counter[str] = Counter()
        for request in self._active.values():
            (running if request.first_token else waiting)[request.answering] += 1
        return running, waiting


def _gaps(chunks: list[tuple[float, int]]) -> Iterator[float]:
    """Inter-token latencies. A chunk of k tokens, t seconds after the previous chunk, counts as k gaps of t/k."""
    for (before, _), (now, n_tokens) in itertools.pairwise(chunks):
        for _ in range(n_tokens):
            yield (now - before) / n_tokens


def outcome(request: ServedRequest) -> str:
    """How a request ended: ok, failed (5xx), refused (4xx) or cancelled."""
    if request.cancelled:
        return CANCELLED
    if request.status >= 500:
        return FAILED
    return REFUSED if request.status >= 400 else OK


def _summary(histogram: Histogram) -> dict[str, float | int | None]:
    def short(value: float | None) -> float | None:
        return None if value is None else round(value, 5)

    quantiles = {name: short(histogram.quantile(q)) for name, q in QUANTILES.items()}
    return {"count": histogram.count, "mean": short(histogram.mean), **quantiles}
