"""The metrics in Prometheus' text format, version 0.0.4.

prometheus_client only writes the text. `Metrics` keeps the counts, because its own counters would cost more per token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from ... import __version__
from ...results.served import CANCELLED, FAILED, OK, REFUSED
from ...types import ReplicaState
from .histogram import Histogram
from .metrics import Metrics

__all__ = ["CONTENT_TYPE", "exposition"]

_TOKENS = {
    "prompt_tokens": "Prompt tokens, reused ones included.",
    "cached_tokens": "Prompt tokens whose prefix was reused.",
    "output_tokens": "Tokens generated.",
    "drafted_tokens": "Next tokens that speculation proposed.",
    "accepted_tokens": "Drafted tokens that the model chose too.",
    "draft_model_drafted_tokens": "Drafted tokens that the draft model proposed.",
    "draft_model_accepted_tokens": "Those of them that the model chose too.",
}
_TIMES = {
    "ttft_s": ("time_to_first_token", "From the request to its first token."),
    "itl_s": ("inter_token_latency", "Between the tokens of an answer."),
    "queue_s": ("queue_time", "Until the model began to work on the request."),
    "duration_s": ("request_duration", "From the request to the end of its answer."),
}
_GAUGES = {
    "model_ready": "1 where the model answers.",
    "model_memory_bytes": "Of the model's worker.",
    "prompt_cache_bytes": "Of prompts that have left their slot and are kept in main memory.",
    "prompt_cache_tokens": "Of those prompts.",
    "requests_running": "Requests that get tokens.",
    "requests_waiting": "Requests without a token yet.",
}


def exposition(metrics: Metrics) -> bytes:
    """All metrics as text."""
    return generate_latest(_Collected(metrics))


class _Collected(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        metrics = self._metrics
        info = GaugeMetricFamily("lqmf_info", "The program.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        yield GaugeMetricFamily("lqmf_uptime_seconds", "Since the server's start.", metrics.uptime_s)
        responses = CounterMetricFamily(
            "lqmf_http_responses",
            "HTTP responses; status 0 is a connection that broke off before one.",
            labels=["method", "status"],
        )
        for (method, status), n in sorted(metrics.responses.items()):
            responses.add_metric([method, str(status)], n)
        yield responses
        yield from _loaded(metrics)
        yield from _replicas(metrics)
        yield from _counted(metrics)


def _loaded(metrics: Metrics) -> Iterable[Metric]:
    """Of the models that are loaded or being loaded."""
    families = {
        name: GaugeMetricFamily(f"lqmf_{name}", text, labels=["model"]) for name, text in _GAUGES.items()
    }
    hits = CounterMetricFamily(
        "lqmf_prompt_cache_hits", "Requests that began from a prompt in main memory.", labels=["model"]
    )
    running, waiting = metrics.running_and_waiting()
    for model in metrics.models():
        kept = model.prompt_cache
        hits.add_metric([model.name], kept.hits)
        values = (
            *(model.state == "ready", model.memory_mb * 1e6, kept.mb * 1e6, kept.tokens),
            *(running[model.name], waiting[model.name]),
        )
        for family, value in zip(families.values(), values, strict=True):
            family.add_metric([model.name], value)
    return [*families.values(), hits]


def _replicas(metrics: Metrics) -> Iterator[Metric]:
    """Of the engines of models that have several."""
    found = [(model.name, replica) for model in metrics.models() for replica in model.replicas]
    gauges: dict[str, tuple[str, Callable[[ReplicaState], float]]] = {
        "ready": ("1 where it takes requests.", lambda of: of.state == "ready"),
        "slow": ("1 where its tokens take much longer than those of the others.", lambda of: of.slow),
        "requests_running": ("Requests that it computes or that wait for it.", lambda of: of.running),
        "work_tokens": ("Tokens that it has to compute for them, estimated.", lambda of: of.work_tokens),
        "memory_bytes": ("Of its worker.", lambda of: of.memory_mb * 1e6),
    }
    labels = ["model", "replica", "place"]
    for metric, (text, value) in gauges.items():
        gauge = GaugeMetricFamily(f"lqmf_replica_{metric}", text, labels=labels)
        for name, replica in found:
            gauge.add_metric([name, str(replica.number), replica.place], value(replica))
        yield gauge
    counts = {"requests": "Requests that it was sent.", "output_tokens": "Tokens that it generated."}
    for metric, text in counts.items():
        counter = CounterMetricFamily(f"lqmf_replica_{metric}", text, labels=labels)
        for name, replica in found:
            counter.add_metric([name, str(replica.number), replica.place], getattr(replica, metric))
        yield counter


def _counted(metrics: Metrics) -> Iterator[Metric]:
    """Of every model that was asked, loaded or not."""
    models = sorted(metrics.by_model.items())
    outcomes = CounterMetricFamily(
        "lqmf_requests", "Requests by how they ended.", labels=["model", "outcome"]
    )
    for name, counted in models:
        # All outcomes from the start: a counter that appears with its first failure has no rate.
        for outcome in (OK, FAILED, REFUSED, CANCELLED):
            outcomes.add_metric([name, outcome], counted.outcomes[outcome])
    yield outcomes
    for field, text in _TOKENS.items():
        tokens = CounterMetricFamily(f"lqmf_{field}", text, labels=["model"])
        for name, counted in models:
            tokens.add_metric([name], getattr(counted, field))
        yield tokens
    for field, (metric, text) in _TIMES.items():
        times = HistogramMetricFamily(f"lqmf_{metric}_seconds", text, labels=["model"])
        for name, counted in models:
            histogram: Histogram = getattr(counted, field)
            times.add_metric([name], histogram.cumulative(), histogram.sum)
        yield times
