"""The cache of the transformers formats when memory does not hold a larger one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from lqmf_runner.engine.worker.runners import slot_attention
from lqmf_runner.engine.worker.runners.base import Span
from lqmf_runner.engine.worker.runners.slot_attention import SlotCache
from lqmf_runner.engine.worker.runners.transformers import TransformersRunner
from lqmf_runner.errors import DoesNotFitError
from lqmf_runner.types import ModelSpec

from ....support.engine.recorded import RecordingCapture

N_LAYERS = 3


def failing_from(n: int) -> Callable[..., torch.Tensor]:
    """Allocate n tensors, and no more."""
    left, allocate = [n], slot_attention._zeros

    def zeros(shape: Any, like: torch.Tensor) -> torch.Tensor:
        if not left[0]:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory\nC++ stack")
        left[0] -= 1
        return allocate(shape, like)

    return zeros


def filled() -> SlotCache:
    """A cache of two slots whose every number is another."""
    cache = SlotCache(8, spare=True)
    like = torch.zeros(1, 2, 1, 4)
    for index in range(N_LAYERS):
        cache.layer(index, like, like)
    cache.reserve(2, 256)
    for index in range(N_LAYERS):
        for number, part in enumerate(cache.layer(index, like, like)):
            part.copy_(torch.arange(part.numel()).view(part.shape) + 0.25 * (2 * index + number))
    return cache


def content(cache: SlotCache) -> list[torch.Tensor]:
    like = torch.zeros(1, 2, 1, 4)
    return [part.clone() for index in range(N_LAYERS) for part in cache.layer(index, like, like)]


@pytest.mark.parametrize("n_allocated", range(2 * N_LAYERS))
@pytest.mark.parametrize("wanted", [(2, 1000), (5, 256), (8, 300)])
def test_a_cache_that_cannot_grow_is_as_it_was(
    monkeypatch: pytest.MonkeyPatch, n_allocated: int, wanted: tuple[int, int]
) -> None:
    cache = filled()
    before = content(cache)
    with monkeypatch.context() as patch:
        patch.setattr(slot_attention, "_zeros", failing_from(n_allocated))
        with pytest.raises(DoesNotFitError, match=r"cannot grow to \d MB.*can't allocate memory$"):
            cache.reserve(*wanted)
    assert (cache.capacity, cache.spare_slot) == (256, 2)
    for was, now in zip(before, content(cache), strict=True):
        assert was.shape == now.shape
        assert torch.equal(was[:2], now[:2])  # the spare slot holds nothing
    cache.reserve(*wanted)
    for was, now in zip(before, content(cache), strict=True):
        assert torch.equal(was[:2], now[:2, :256])


@pytest.mark.parametrize("recorded", [False, True])
def test_a_model_goes_on_with_what_its_slots_hold(
    specs: dict[str, ModelSpec], monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    spec = specs["transformers-llama"]
    runner = TransformersRunner.load(spec, lambda share: None)
    if recorded:
        runner = TransformersRunner(runner._model, runner.tokenizer, runner.info, capture=RecordingCapture())
    prompt = [5 + i % 200 for i in range(40)]

    def answer(disturb: Callable[[], None]) -> list[np.ndarray]:
        rows = [runner.step([Span(0, prompt, 0, 1)]).copy()]
        for position in range(40, 46):
            disturb()
            rows.append(runner.step([Span(0, [7], position, 1)]).copy())
        return rows

    def ask_too_much() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(slot_attention, "_zeros", failing_from(3))
            with pytest.raises(DoesNotFitError):
                runner.reserve([Span(0, [7], 40, 1), Span(1, [7] * 9, 900, 1)])

    expected = answer(lambda: None)
    for a, b in zip(expected, answer(ask_too_much), strict=True):
        assert np.array_equal(a, b)
