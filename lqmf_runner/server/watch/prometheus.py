"""The metrics in Prometheus' text format, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ... import __version__
from .histogram import Histogram
from .metrics import Metrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Samples = Iterable[tuple[Mapping[str, str], float]]

_TOKENS = {
    "prompt_tokens": "Prompt tokens, reused ones included.",
    "cached_tokens": "Prompt tokens whose prefix was reused.",
    "output_tokens": "Tokens generated.",
}
_TIMES = {
    "ttft_s": ("time_to_first_token", "From the request to its first token."),
    "itl_s": ("inter_token_latency", "Between the tokens of an answer."),
    "queue_s": ("queue_time", "Until the model began to work on the request."),
    "duration_s": ("request_duration", "From the request to the end of its answer."),
}


def exposition(metrics: Metrics) -> str:
    """Everything that is counted."""
    text = _Text()
    text.family("lqmf_info", "gauge", "The program.", [({"version": __version__}, 1)])
    text.family("lqmf_uptime_seconds", "gauge", "Since the server's start.", [({}, metrics.uptime_s)])
    responses = sorted(metrics.responses.items())
    text.family(
        "lqmf_http_responses_total",
        "counter",
        "HTTP responses; status 0 is a connection that broke off before one.",
        [({"method": method, "status": str(status)}, n) for (method, status), n in responses],
    )
    _write_loaded(text, metrics)
    _write_counted(text, metrics)
    return str(text)


def _write_loaded(text: _Text, metrics: Metrics) -> None:
    running, waiting = metrics.running_and_waiting()
    for name, help_text, value in (
        ("model_ready", "1 where the model answers.", lambda m: m.state == "ready"),
        ("model_memory_bytes", "Of the model's worker.", lambda m: m.memory_mb * 1e6),
        ("requests_running", "Requests that get tokens.", lambda m: running[m.name]),
        ("requests_waiting", "Requests without a token yet.", lambda m: waiting[m.name]),
    ):
        samples = [({"model": model.name}, value(model)) for model in metrics.models()]
        text.family(f"lqmf_{name}", "gauge", help_text, samples)


def _write_counted(text: _Text, metrics: Metrics) -> None:
    models = sorted(metrics.by_model.items())
    outcomes = [
        ({"model": name, "outcome": outcome}, n)
        for name, counted in models
        for outcome, n in sorted(counted.outcomes.items())
    ]
    text.family("lqmf_requests_total", "counter", "Requests by how they ended.", outcomes)
    for field, help_text in _TOKENS.items():
        samples = [({"model": name}, getattr(counted, field)) for name, counted in models]
        text.family(f"lqmf_{field}_total", "counter", help_text, samples)
    for field, (metric, help_text) in _TIMES.items():
        histograms = [({"model": name}, getattr(counted, field)) for name, counted in models]
        text.histogram(f"lqmf_{metric}_seconds", help_text, histograms)


class _Text:
    def __init__(self) -> None:
        self._lines: list[str] = []

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"

    def family(self, name: str, kind: str, help_text: str, samples: Samples) -> None:
        """A metric with all its labelled values."""
        self._lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
        self._lines += [_sample(name, labels, value) for labels, value in samples]

    def histogram(
        self, name: str, help_text: str, samples: Iterable[tuple[Mapping[str, str], Histogram]]
    ) -> None:
        """A histogram with all its labels; buckets are cumulative."""
        self.family(name, "histogram", help_text, ())
        for labels, histogram in samples:
            below = 0
            for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
                below += count
                self._lines.append(_sample(f"{name}_bucket", {**labels, "le": str(bound)}, below))
            self._lines.append(_sample(f"{name}_sum", labels, histogram.sum))
            self._lines.append(_sample(f"{name}_count", labels, below))


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
    number = f"{value:d}" if isinstance(value, int) else repr(float(value))
    return f"{name}{{{inside}}} {number}" if inside else f"{name} {number}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
