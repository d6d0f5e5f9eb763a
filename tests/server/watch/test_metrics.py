from __future__ import annotations

import random
import re
from types import SimpleNamespace

import pytest

from lqmf_runner.errors import EngineLostError
from lqmf_runner.server.watch.histogram import Histogram
from lqmf_runner.server.watch.metrics import Metrics
from lqmf_runner.server.watch.observe import ServedRequest
from lqmf_runner.server.watch.prometheus import exposition
from lqmf_runner.types import Usage


def test_a_value_on_a_bound_is_within_it() -> None:
    histogram = Histogram([1, 2])
    histogram.add([0.5, 1.0, 1.5, 2.0, 9.0])
    assert histogram.counts == [2, 2, 1]
    assert histogram.mean == pytest.approx(14 / 5)


def test_quantiles_are_within_a_bucket_of_the_true_ones() -> None:
    bounds = [n / 10 for n in range(1, 11)]
    values = sorted(random.Random(0).betavariate(2, 3) for _ in range(1000))
    histogram = Histogram(bounds)
    histogram.add(values)
    for q in (0.01, 0.5, 0.9, 0.99):
        estimate = histogram.quantile(q)
        assert estimate is not None
        assert abs(estimate - values[round(q * 999)]) <= 0.1
    assert Histogram(bounds).quantile(0.5) is None
    late = Histogram(bounds)
    late.add([5.0])
    assert late.quantile(0.5) == 1.0


def serve(metrics: Metrics, chunks: list[tuple[float, int]], **outcome: object) -> ServedRequest:
    """A request that began at 100 s and whose chunks of so many tokens came at these times."""
    request = ServedRequest(
        route="/v1/chat/completions", model='a"b\\c', streaming=True, n=1, scope={}, began=100.0
    )
    metrics.on_start(request)
    request.own.extend(chunks)
    request.first_token = chunks[0][0] if chunks else 0.0
    request.tokens = sum(n for _, n in chunks)
    request.ended = 110.0
    for name, value in outcome.items():
        setattr(request, name, value)
    metrics.on_end(request)
    return request


def test_times_are_those_of_the_definitions() -> None:
    metrics = Metrics()
    usage = Usage(prompt_tokens=7, cached_tokens=3, completion_tokens=6, queue_s=0.25)
    serve(metrics, [(100.5, 2), (101.0, 1), (102.0, 3)], usage=usage)
    (counted,) = metrics.by_model.values()
    assert (counted.ttft_s.count, counted.ttft_s.sum) == (1, pytest.approx(0.5))
    # Two tokens came first, then one after 0.5 s, then three that share 1 s.
    assert (counted.itl_s.count, counted.itl_s.sum) == (4, pytest.approx(1.5))
    assert (counted.duration_s.sum, counted.queue_s.sum) == (10.0, 0.25)
    assert (counted.prompt_tokens, counted.cached_tokens, counted.output_tokens) == (7, 3, 6)


def test_outcomes() -> None:
    metrics = Metrics()
    serve(metrics, [(100.5, 1)], usage=Usage())
    serve(metrics, [], status=503, error=EngineLostError("gone"))
    serve(metrics, [], status=429)
    serve(metrics, [(100.5, 1)], cancelled=True)
    serve(metrics, [], status=404)
    (counted,) = metrics.by_model.values()
    assert counted.outcomes == {"ok": 1, "failed": 1, "refused": 1, "cancelled": 1}
    assert metrics.running_and_waiting() == ({}, {})


def test_a_name_becomes_a_series_only_if_there_is_such_a_model() -> None:
    loading = SimpleNamespace(name="loading", state="loading", memory_mb=0.0)
    metrics = Metrics(lambda: [loading])
    for name, outcome in (("made up", {"status": 404}), ("left", {"cancelled": True})):
        serve(metrics, [], model=name, **outcome)
    assert metrics.by_model == {}
    serve(metrics, [], model="loading", cancelled=True)
    assert set(metrics.by_model) == {"loading"}
    assert not metrics.running_and_waiting()[1]


def test_the_text_is_prometheus_format() -> None:
    """Names, labels, escapes and cumulative buckets as the format's own grammar has them."""
    metrics = Metrics(lambda: [SimpleNamespace(name="m", state="ready", memory_mb=1.5)])
    serve(metrics, [(100.5, 1), (100.6, 1)], usage=Usage())
    metrics.count_response("POST", 200)
    text = exposition(metrics)
    sample = re.compile(r'[a-z_]+(\{([a-z]+="(\\.|[^"\\\n])*",?)+\})? [0-9.e+-]+')
    types: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in types
            types[name] = kind
        elif not line.startswith("# HELP "):
            assert sample.fullmatch(line), line
    assert text.endswith("\n")
    assert 'lqmf_requests_total{model="a\\"b\\\\c",outcome="ok"} 1' in text
    assert 'lqmf_model_memory_bytes{model="m"} 1500000.0' in text
    buckets = [
        int(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith("lqmf_time_to_first_token_seconds_bucket")
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 1
