"""Metrics against numbers worked out by hand, and against numpy."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest

from lqmf_runner.load.metrics import Objectives, bandwidth_utilisation, engine_rates, load_result, summarise
from lqmf_runner.results.schema import RequestRecord, Shape, Summary
from lqmf_runner.types import EngineStats
from tests.support.engine.scripted import INFO


def record(**values: object) -> RequestRecord:
    return RequestRecord(model="m", load="c2", prompt_id="p", turn=0, user=0, **values)  # type: ignore[arg-type]


def test_summary_of_known_numbers() -> None:
    got = summarise([4.0, 1.0, 3.0, 2.0])
    assert got.mean == 2.5
    assert got.p50 == 2.5
    assert got.std == pytest.approx(1.118033988749895)
    assert got.p90 == pytest.approx(3.7)
    assert got.p99 == pytest.approx(3.97)


def test_summary_agrees_with_numpy() -> None:
    rng = random.Random(3)
    for size in (1, 2, 3, 17, 1000):
        values = [rng.lognormvariate(0, 1) for _ in range(size)]
        expected = [np.mean(values), np.std(values), *np.percentile(values, [50, 90, 95, 99])]
        assert list(msgspec.structs.astuple(summarise(values))) == pytest.approx(expected)


def test_nothing_measured_is_null_in_json() -> None:
    assert summarise([]) == Summary()
    assert summarise([None]) == Summary()
    result = load_result(Shape("closed", 1), [], 0.0)
    text = msgspec.json.encode(result).decode()
    assert "NaN" not in text
    assert '"success_rate":null' in text
    assert '"p50":null' in text


def test_load_result_by_hand() -> None:
    good = [
        record(
            ttft_s=0.1,
            e2e_s=0.5,
            tpot_s=0.1,
            itl_s=[0.1, 0.3],
            prompt_tokens=10,
            output_tokens=5,
            cached_tokens=4,
        ),
        record(ttft_s=0.3, e2e_s=1.1, tpot_s=0.2, itl_s=[0.2], prompt_tokens=20, output_tokens=5),
    ]
    failed = record(
        ttft_s=9.0, e2e_s=9.0, itl_s=[9.0], prompt_tokens=99, output_tokens=99, error="EngineError: no"
    )
    got = load_result(
        Shape("closed", 2),
        [*good, failed],
        2.0,
        objectives=Objectives(ttft_s=0.2, e2e_s=1.0),
        bandwidth_share=0.5,
    )
    assert (got.requests, got.succeeded) == (3, 2)
    assert got.success_rate == pytest.approx(2 / 3)
    assert got.ttft_s.mean == pytest.approx(0.2)
    assert got.itl_s.mean == pytest.approx(0.2)
    assert got.itl_s.p50 == pytest.approx(0.2)
    assert got.e2e_s.p50 == pytest.approx(0.8)
    assert got.output_tokens_per_s == 5.0
    assert got.total_tokens_per_s == 20.0
    assert got.requests_per_s == 1.0
    assert got.goodput_rps == 0.5
    assert (got.prompt_tokens, got.cached_tokens, got.output_tokens) == (30, 4, 10)
    assert got.bandwidth_utilisation == 0.5


def test_goodput_needs_every_objective() -> None:
    both = record(ttft_s=0.1, tpot_s=0.05, e2e_s=1.0)
    assert Objectives(0.2, 0.1, 2.0).met(both)
    assert not Objectives(0.2, 0.01, 2.0).met(both)
    assert not Objectives(ttft_s=0.2).met(record(e2e_s=1.0))
    assert not Objectives(e2e_s=2.0).met(record(e2e_s=1.0))
    assert Objectives(tpot_s=0.1).met(record(ttft_s=0.1, e2e_s=0.1))
    assert load_result(Shape("closed", 1), [both], 1.0).goodput_rps is None


def test_engine_rates_come_from_pure_steps() -> None:
    before = EngineStats(
        prefill_tokens=100, prefill_s=1.0, decode_tokens=50, decode_steps=50, decode_s=1.0, mixed_s=5.0
    )
    after = EngineStats(
        prefill_tokens=700, prefill_s=3.0, decode_tokens=250, decode_steps=100, decode_s=2.0,
        mixed_prefill_tokens=10, mixed_decode_tokens=10, mixed_steps=5, mixed_s=6.0,
    )  # fmt: skip
    rates = engine_rates(before, after)
    assert rates.prefill_tokens_per_s == 300.0
    assert rates.decode_tokens_per_s == 200.0
    assert rates.decode_steps_per_s == 50.0


def test_engine_rates_fall_back_to_mixed_steps() -> None:
    after = EngineStats(mixed_prefill_tokens=300, mixed_decode_tokens=100, mixed_steps=10, mixed_s=2.0)
    rates = engine_rates(EngineStats(), after)
    assert rates.prefill_tokens_per_s == pytest.approx(200.0)
    assert rates.decode_tokens_per_s == pytest.approx(200.0)
    assert rates.decode_steps_per_s == pytest.approx(
        20.0
    )  # 10 steps in the quarter of 2 s that belongs to decoding


def test_an_engine_without_counters_has_no_rates() -> None:
    rates = engine_rates(EngineStats(), EngineStats())
    assert rates.prefill_tokens_per_s is None
    assert rates.decode_tokens_per_s is None


def test_bandwidth_share_by_hand() -> None:
    rates = engine_rates(EngineStats(), EngineStats(decode_tokens=400, decode_steps=100, decode_s=1.0))
    assert bandwidth_utilisation(INFO, rates, 19.6) == pytest.approx(0.5)  # 98 MB x 100/s of 19.6 GB/s
    assert bandwidth_utilisation(INFO, rates, None) is None
    assert bandwidth_utilisation(msgspec.structs.replace(INFO, device="cuda"), rates, 19.6) is None
    assert bandwidth_utilisation(msgspec.structs.replace(INFO, weight_bytes=0), rates, 19.6) is None
