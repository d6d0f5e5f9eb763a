"""The metrics in Prometheus' text format, version 0.0.4.

prometheus_client only writes the text. `Metrics` keeps the counts, because its own counters would cost more per token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
from .histogram import Histogram
from .metrics import Metrics

__all__ = ["CONTENT_TYPE", "exposition"]

_TOKENS = {
    "prompt_tokens": "Prompt tokens, reused ones included.",
    "cached_tokens": "Prompt tokens whose prefix was reused.",
    "output_tokens": "Tokens generated.",
    "drafted_tokens": "Next tokens that speculation proposed.",
    "accepted_tokens": "Drafted tokens that the model chose too.",
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
        yield from _counted(metrics)


def _loaded(metrics: Metrics) -> Iterable[Metric]:
    """Of the models that are loaded or being loaded."""
    families = {
        name: GaugeMetricFamily(f"lqmf_{name}", text, labels=["model"]) for name, text in _GAUGES.items()
    }
    running, waiting = metrics.running_and_waiting()
    for model in metrics.models():
        values = (model.state == "ready", model.memory_mb * 1e6, running[model.name], waiting[model.name])
        for family, value in zip(families.values(), values, strict=True):
            family.add_metric([model.name], value)
    return families.values()


def _counted(metrics: Metrics) -> Iterator[Metric]:
    """Of every model that was asked, loaded or not."""
    models = sorted(metrics.by_model.items())
    outcomes = CounterMetricFamily(
        "lqmf_requests", "Requests by how they ended.", labels=["model", "outcome"]
    )
    for name, counted in models:
        for outcome, n in sorted(counted.outcomes.items()):
            outcomes.add_metric([name, outcome], n)
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
