"""Recorded decode steps against the same steps without recordings, on a CPU and where there is one on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import scaled_dot_product_attention

from lqmf_runner.engine.worker.runners.base import Span
from lqmf_runner.engine.worker.runners.gpu.decode_graphs import CudaCapture
from lqmf_runner.engine.worker.runners.gpu.flash import find_kernel
from lqmf_runner.engine.worker.runners.transformers import TransformersRunner
from lqmf_runner.types import ModelSpec

from .....support.engine.recorded import RecordingCapture
from .....support.models.architectures import make_architecture

N_SLOTS = 4


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TransformersRunner]:
    """Load a tiny model of an architecture; what is given besides goes to the runner."""
    root = tmp_path_factory.mktemp("graphs")

    def load(name: str, **runner: Any) -> TransformersRunner:
        folder: Path = root / name
        if not folder.exists():
            make_architecture(folder, name)
        options = {"n_ctx": 512, "max_slots": N_SLOTS, "n_threads": 1, "dtype": "float32", "device": "cpu"}
        spec = ModelSpec(name=name, format="transformers", path=str(folder), options=options)
        plain = TransformersRunner.load(spec, lambda share: None)
        if not runner:
            return plain
        recording = TransformersRunner(plain._model, plain.tokenizer, plain.info, **runner)
        recording.take_one_step()
        return recording

    return load


def token(slot: int, position: int) -> int:
    return 3 + (slot * 31 + position * 7) % 200


def prompt(slot: int, n: int) -> Span:
    return Span(slot=slot, tokens=[token(slot, i) for i in range(n)], start=0, n_rows=1)


def decode(slot: int, position: int) -> Span:
    return Span(slot=slot, tokens=[token(slot, position)], start=position, n_rows=1)


def conversation(runner: TransformersRunner) -> NDArray[np.float32]:
    """Steps in which slots come and go, skip a step, appear out of order and outgrow the cache."""
    lengths = {0: 5, 2: 17, 1: 252}
    rows = [runner.step([prompt(slot, n)]).copy() for slot, n in lengths.items()]
    for slots in ([0], [2, 0], [1], [0, 1, 2], [2], [1, 2], [0, 1], [1], [1, 0], [2, 1, 0], [1]):
        rows.append(runner.step([decode(slot, lengths[slot]) for slot in slots]).copy())
        for slot in slots:
            lengths[slot] += 1
    rows.append(runner.step([prompt(3, 9)]).copy())
    rows.append(runner.step([decode(3, 9), decode(1, lengths[1])]).copy())
    return np.concatenate(rows)


@pytest.mark.parametrize("architecture", ["llama", "mistral_window", "gemma2"])
def test_recorded_steps_give_the_same_logits(
    load: Callable[..., TransformersRunner], architecture: str
) -> None:
    expected = conversation(load(architecture))
    capture = RecordingCapture()
    found = conversation(load(architecture, capture=capture))
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    assert capture.n_recorded > 4  # one, two and four slots, and again after the cache had grown


def test_a_size_is_recorded_once(load: Callable[..., TransformersRunner]) -> None:
    capture = RecordingCapture()
    runner = load("llama", capture=capture)
    before = capture.n_recorded
    for position in range(1, 20):
        runner.step([decode(0, position)])
    assert capture.n_recorded == before == 1


def test_prompts_and_drafts_are_not_recorded(load: Callable[..., TransformersRunner]) -> None:
    capture = RecordingCapture()
    runner = load("llama", capture=capture)
    before = capture.n_recorded
    runner.step([prompt(0, 7), decode(1, 0)])
    runner.step([Span(slot=0, tokens=[5, 6], start=7, n_rows=2)])
    runner.step([Span(slot=0, tokens=[5], start=9, n_rows=0), decode(1, 1)])
    assert capture.n_recorded == before


def refuse(work: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    raise RuntimeError("operation not permitted when stream is capturing")


def forget(work: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    result = torch.zeros_like(work())
    return lambda: result


@pytest.mark.parametrize(("capture", "reason"), [(refuse, "not permitted"), (forget, "off by")])
def test_without_a_good_recording_all_goes_on_and_the_notes_say_so(
    load: Callable[..., TransformersRunner], capture: Any, reason: str
) -> None:
    expected = conversation(load("llama"))
    runner = load("llama", capture=capture)
    found = conversation(runner)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    (note,) = (note for note in runner.info.notes if "CUDA graphs" in note)
    assert reason in note


def varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
    seqused_k: torch.Tensor,
) -> torch.Tensor:
    """What torch's kernel is documented to do: heads in the middle, masks aligned at the last query and key."""
    starts = cu_seq_k[:-1, None]
    n_sequences = len(starts)
    assert cu_seq_q.tolist() == list(range(n_sequences + 1))
    assert max_q == 1
    assert window_size[1] == 0
    at = torch.arange(max_k)
    seen = at < seqused_k[:, None]
    if window_size[0] >= 0:
        seen &= at >= seqused_k[:, None] - 1 - window_size[0]
    rows = (starts + at).clamp(max=key.shape[0] - 1)
    return scaled_dot_product_attention(
        query[:, :, None],
        key[rows].transpose(1, 2),
        value[rows].transpose(1, 2),
        attn_mask=seen[:, None, None],
        scale=scale,
        enable_gqa=enable_gqa,
    )[:, :, 0]


@pytest.mark.parametrize("architecture", ["llama", "mistral_window"])
def test_flash_attention_over_slots_is_attention(
    load: Callable[..., TransformersRunner], architecture: str
) -> None:
    expected = conversation(load(architecture))
    calls = list[int]()

    def kernel(*args: Any, **options: Any) -> torch.Tensor:
        calls.append(1)
        return varlen(*args, **options)

    # Without a tape: the assertions read numbers.
    found = conversation(load(architecture, capture=lambda work: work, flash=kernel))
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    assert calls


def test_a_flash_kernel_that_fails_is_left_out(load: Callable[..., TransformersRunner]) -> None:
    def kernel(*args: Any, **options: Any) -> torch.Tensor:
        raise RuntimeError("no kernel for this head dimension")

    capture = RecordingCapture()
    expected = conversation(load("llama"))
    runner = load("llama", capture=capture, flash=kernel)
    assert np.abs(conversation(runner) - expected).max() < 1e-4 * np.abs(expected).max()
    assert capture.n_recorded > 4
    assert not runner.info.notes


def test_a_flash_kernel_that_is_wrong_is_left_out(load: Callable[..., TransformersRunner]) -> None:
    def kernel(*args: Any, **options: Any) -> torch.Tensor:
        return torch.zeros_like(varlen(*args, **options))

    expected = conversation(load("llama"))
    runner = load("llama", capture=RecordingCapture(), flash=kernel)
    assert np.abs(conversation(runner) - expected).max() < 1e-4 * np.abs(expected).max()
    assert not runner.info.notes


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_cuda_graphs_on_a_gpu(load: Callable[..., TransformersRunner], dtype: str) -> None:
    plain = load("llama")
    device = torch.device("cuda", 0)
    model = plain._model.to(device, getattr(torch, dtype))
    expected = conversation(TransformersRunner(model, plain.tokenizer, plain.info))
    kernel = find_kernel(device, getattr(torch, dtype))
    runner = TransformersRunner(model, plain.tokenizer, plain.info, capture=CudaCapture(device), flash=kernel)
    found = conversation(runner)
    assert runner._graphs is not None
    assert runner._graphs.failure is None
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
