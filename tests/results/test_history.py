"""What counts as worse, on histories whose answer is known."""

from __future__ import annotations

import pytest

from lqmf_runner.reports.history.table import describe
from lqmf_runner.results.history import Change, PastRun, find_regressions
from lqmf_runner.results.metrics import tracked_metric


def history(metric: str, values: list[float], **more: list[float]) -> list[PastRun]:
    return [
        PastRun(
            id=str(n), started_at=f"2026-01-{n + 1:02d}T00:00:00+00:00", model="m", mode="benchmark",
            metrics={metric: value} | {name.replace("__", "/"): column[n] for name, column in more.items()},
        )
        for n, value in enumerate(values)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "values", "worse"),
    [
        ("c1/output_tokens_per_s", [100, 91, 100], []),  # within what machines drift
        ("c1/output_tokens_per_s", [100, 89, 100], ["1"]),
        ("c1/output_tokens_per_s", [100, 200], []),
        ("c8/ttft_s.p50", [0.1, 0.2], ["1"]),
        ("c8/ttft_s.p50", [0.2, 0.1], []),
        (
            "c1/output_tokens_per_s",
            [100, 60, 140, 80, 120, 75],
            ["1"],
        ),  # the later ones are used to such swings
        ("quality/kld.mean", [0.01, 0.01, 0.0106], ["2"]),
        ("quality/top1_agreement", [0.95, 0.93], ["1"]),
        ("c1/output_tokens", [100, 1], []),  # no better or worse
        ("quality/kld.mean", [0.0, 0.1], ["1"]),
    ],
)
def test_worse_means_more_than_noise(metric: str, values: list[float], worse: list[str]) -> None:
    assert sorted(find_regressions(history(metric, values))) == worse


def test_intervals_of_repeated_loads_are_noise() -> None:
    wide = history("c1/goodput_rps", [10.0, 8.0], **{"c1__repeats.goodput_rps.ci95": [1.2, 1.2]})
    narrow = history("c1/goodput_rps", [10.0, 8.0], **{"c1__repeats.goodput_rps.ci95": [0.2, 0.2]})
    assert find_regressions(wide) == {}
    assert list(find_regressions(narrow)) == ["1"]


def test_metrics_are_found_by_whole_names() -> None:
    assert tracked_metric("c8/ttft_s.p50") is not None
    assert tracked_metric("c8/ttft_s.p99") is None
    assert tracked_metric("system/load_time_s.x") is None
    assert tracked_metric("quality/kld.mean") is not None
    assert tracked_metric("kld.mean") is None


def test_a_change_is_told_in_per_cent_or_where_it_is_large_as_a_multiple() -> None:
    assert describe(Change("c8/output_tokens_per_s", 101.0, 82.3, 4)).endswith(
        "(-19 %), against 4 earlier runs"
    )
    assert describe(Change("c1/itl_s.p50", 0.0001, 3.7, 1)).endswith("(37,000 ×), against 1 earlier run")
