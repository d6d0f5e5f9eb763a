from __future__ import annotations

from types import SimpleNamespace

import pytest

from lqmf_runner.errors import EngineLostError
from lqmf_runner.server.watch.metrics import Metrics
from lqmf_runner.server.watch.observe import ServedRequest
from lqmf_runner.server.watch.prometheus import exposition
from lqmf_runner.types import PromptCacheUse, Usage


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


def test_drafts_are_counted_by_who_made_them() -> None:
    metrics = Metrics()
    usage = Usage(
        drafted_tokens=9, accepted_tokens=6, draft_model_drafted_tokens=4, draft_model_accepted_tokens=3
    )
    for _ in range(2):
        serve(metrics, [(100.5, 1)], usage=usage, model="m")
    expected = {
        "drafted_tokens": 18, "accepted_tokens": 12, "draft_model_drafted_tokens": 8, "draft_model_accepted_tokens": 6
    }  # fmt: skip
    assert expected.items() <= metrics.stats()["models"]["m"].items()
    text = exposition(metrics).decode()
    for name, value in expected.items():
        assert f'lqmf_{name}_total{{model="m"}} {value}.0' in text


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
    loading = SimpleNamespace(name="loading", state="loading", memory_mb=0.0, prompt_cache=PromptCacheUse())
    metrics = Metrics(lambda: [loading])
    for name, outcome in (("made up", {"status": 404}), ("left", {"cancelled": True})):
        serve(metrics, [], model=name, **outcome)
    assert metrics.by_model == {}
    serve(metrics, [], model="loading", cancelled=True)
    assert set(metrics.by_model) == {"loading"}
    assert not metrics.running_and_waiting()[1]
