"""The plan of a model over several GPUs. The GPUs are made up; what libraries do with the plan is not tried here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import llama_cpp
import pytest
import torch

from lqmf_runner.engine.worker.runners import transformers_loading
from lqmf_runner.engine.worker.runners.base import Span
from lqmf_runner.engine.worker.runners.gpu.split import plan_split
from lqmf_runner.engine.worker.runners.llama_loading import split_over_gpus
from lqmf_runner.engine.worker.runners.slot_attention import StepPlan
from lqmf_runner.engine.worker.runners.transformers_loading import device_arguments, free_for_cache, placement
from lqmf_runner.errors import UserInputError
from lqmf_runner.nvml import GpuMemory


def gpus(*free_mb: float) -> list[GpuMemory]:
    return [GpuMemory(f"card {i}", free, 24_000) for i, free in enumerate(free_mb)]


def test_a_model_that_fits_goes_to_the_gpu_with_the_most_room() -> None:
    plan = plan_split(10_000, gpus(9_000, 20_000, 15_000))
    assert plan.shares == (0, 1, 0)
    assert plan.fits


def test_one_that_does_not_is_divided_by_the_room_there_is() -> None:
    plan = plan_split(20_000, gpus(21_500, 11_500))
    assert plan.shares == pytest.approx((20 / 30, 10 / 30))
    assert plan.fits
    assert plan.describe(gpus(21_500, 11_500)) == (
        "planned from free memory: 67% on GPU 0 (card 0, 21,500 MB free), 33% on GPU 1 (card 1, 11,500 MB free)"
    )


def test_what_does_not_fit_is_told() -> None:
    plan = plan_split(40_000, gpus(11_500, 1_000, 13_000))
    assert plan.used == (0, 2)
    assert sum(plan.shares) == pytest.approx(21.5 / 46)
    assert plan.describe(gpus(11_500, 1_000, 13_000)).endswith("; the rest does not fit")


def llama(options: dict[str, Any], weights_mb: float, *free_mb: float) -> tuple[Any, list[str]]:
    params, notes = llama_cpp.llama_model_default_params(), list[str]()
    split_over_gpus(params, options, gpus(*free_mb), weights_mb, notes)
    return params, notes


def test_llama_cpp_is_given_the_plan() -> None:
    params, notes = llama({}, 20_000, 21_500, 11_500)
    assert params.split_mode == llama_cpp.LLAMA_SPLIT_MODE_LAYER
    assert params.tensor_split[:2] == pytest.approx([20 / 30, 10 / 30])
    assert "67% on GPU 0" in notes[0]
    params, notes = llama({}, 5_000, 8_000, 20_000)
    assert (params.split_mode, params.main_gpu) == (llama_cpp.LLAMA_SPLIT_MODE_NONE, 1)
    assert notes == ["all of it goes to GPU 1 (card 1)"]


def test_llama_cpp_is_given_what_was_asked_for() -> None:
    params, notes = llama({"tensor_split": [3, 1], "split_mode": "row"}, 5_000, 20_000, 20_000)
    assert params.split_mode == llama_cpp.LLAMA_SPLIT_MODE_ROW
    assert (list(params.tensor_split[:2]), notes) == ([3, 1], [])
    params, _ = llama({"main_gpu": 0}, 5_000, 8_000, 20_000)
    assert (params.split_mode, params.main_gpu) == (llama_cpp.LLAMA_SPLIT_MODE_NONE, 0)
    with pytest.raises(UserInputError, match="names 3 GPUs, there are 2"):
        llama({"main_gpu": 2}, 5_000, 8_000, 20_000)


def test_transformers_is_given_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_loading, "available_memory", lambda: 64 * 10**9)
    notes: list[str] = []
    assert device_arguments({}, 5_000, gpus(8_000, 20_000), notes) == {"device_map": {"": 1}}
    spread = device_arguments({}, 20_000, gpus(21_500, 11_500), notes)
    assert spread == {
        "device_map": "auto",
        "max_memory": {0: 20_000_000_000, 1: 10_000_000_000, "cpu": 64 * 10**9},
    }
    assert "67% on GPU 0" in notes[1]


def test_transformers_is_given_what_was_asked_for() -> None:
    two, notes = gpus(8_000, 20_000), list[str]()
    assert device_arguments({"device_map": "cuda:1"}, 5_000, two, notes) == {"device_map": "cuda:1"}
    limits = {"device_map": "auto", "gpu_memory_mb": [3_000, 0]}
    assert device_arguments(limits, 5_000, two, notes) == {
        "device_map": "auto",
        "max_memory": {0: 3_000_000_000, 1: 0},
    }
    assert notes == []
    with pytest.raises(UserInputError, match="has 1 numbers, there are 2 GPUs"):
        device_arguments({"gpu_memory_mb": [3_000]}, 5_000, two, notes)


def test_the_cache_fits_where_its_layers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = placement(
        {"model.embed_tokens": 0, "model.layers.0": 0, "model.layers.1": 1, "model.layers.2": 1}
    )
    assert layers == {"0": 1, "1": 2}
    free = {0: (3_000, 0), 1: (4_000, 0)}
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(mem_get_info=free.__getitem__))
    assert (
        free_for_cache(layers) == 6_000
    )  # 4,000 bytes hold two of three layers' parts; 3,000 would do for 9,000
    assert free_for_cache(layers, reserved=1_000) == 4_500
    assert free_for_cache(layers, reserved=3_500) == 0


def test_what_is_reserved_is_no_room() -> None:
    assert [gpu.less(2_000).free_mb for gpu in gpus(9_000, 1_000)] == [7_000, 0]


def test_a_step_is_there_on_every_device_of_the_layers() -> None:
    here, elsewhere = torch.device("cpu"), torch.device("meta")
    plan = StepPlan([Span(slot=0, tokens=[1], start=3, n_rows=1)], 8, here)
    assert plan.on(here) is plan
    assert plan.on(elsewhere).cache_rows.device == elsewhere
    assert plan.on(elsewhere) is plan.on(elsewhere)
