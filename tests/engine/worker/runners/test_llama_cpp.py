"""llama.cpp's numbers for one sequence, bit for bit, whatever else is computed beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from lqmf_runner.engine.worker.runners import llama_cpp as module
from lqmf_runner.engine.worker.runners.base import Span
from lqmf_runner.engine.worker.runners.llama_cpp import LlamaCppRunner
from lqmf_runner.types import ModelSpec

from ....support.models.tiny import make_gguf
from ...contract.test_demo_models import demo_spec

PROMPT = [(7919 * i) % 40_000 + 100 for i in range(100)]
ANSWER = [(104_729 * i) % 40_000 + 100 for i in range(8)]


@pytest.fixture(scope="module", params=["Q4_1", "Q4_K_M"])
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LlamaCppRunner:
    """The demo GGUF: its layers round their inputs to 8 bits, which makes the smallest difference a large one."""
    spec = demo_spec("gguf")
    spec = msgspec.structs.replace(spec, options={**spec.options, "max_slots": 9, "batch_invariant": True})
    if request.param != "Q4_1":
        path = tmp_path_factory.mktemp(request.param) / "model.gguf"
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = 15  # LLAMA_FTYPE_MOSTLY_Q4_K_M
        params.allow_requantize = True
        assert llama_cpp.llama_model_quantize(spec.path.encode(), str(path).encode(), params) == 0
        spec = msgspec.structs.replace(spec, path=str(path), version="")
    return LlamaCppRunner.load(spec, lambda _: None)


def logits(
    runner: LlamaCppRunner, slot: int, chunks: Sequence[int], beside: Sequence[int] = ()
) -> NDArray[np.float32]:
    """Of the prompt's last token and of a given answer, [9, n_vocab]; the slots `beside` answer at the same time."""
    for other in (slot, *beside):
        runner.truncate(other, 0)
    for other in beside:
        runner.step([Span(other, PROMPT[: 10 * other + 10][::-1], 0, 1)])
    at = 0
    rows = []
    for size in chunks:
        last = runner.step([Span(slot, PROMPT[at : at + size], at, 1)])
        at += size
    rows.append(last[0].copy())
    for n, token in enumerate(ANSWER):
        others = [Span(other, [token + other], 10 * other + 10 + n, 1) for other in beside]
        rows.append(runner.step([Span(slot, [token], at + n, 1), *others])[0].copy())
    return np.array(rows)


@pytest.mark.parametrize(
    ("chunks", "slot", "beside"),
    [
        ([37, 63], 0, ()),
        ([92, 8], 0, ()),
        ([8, 92], 0, ()),
        ([100], 3, ()),
        ([100], 0, (1, 2, 3)),
        ([50, 50], 2, (0, 3)),
        ([100], 4, (0, 1, 2, 3, 5, 6, 7, 8)),
    ],
)
def test_logits_are_the_same_in_chunks_and_in_a_batch(
    runner: LlamaCppRunner, chunks: list[int], slot: int, beside: tuple[int, ...]
) -> None:
    np.testing.assert_array_equal(logits(runner, slot, chunks, beside), logits(runner, 0, [100]))


def test_a_cache_that_cannot_grow_goes_on_as_it_was_and_leaves_no_larger_one(
    runner: LlamaCppRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = logits(runner, 0, [100])[1:]
    runner.truncate(0, 100)
    freed: list[Any] = []
    real = llama_cpp.llama_free

    def fail(*_: Any) -> None:
        raise MemoryError

    def free(context: Any) -> None:
        freed.append(context)
        real(context)

    with monkeypatch.context() as patched:
        patched.setattr(module, "_move_sequence", fail)
        patched.setattr(llama_cpp, "llama_free", free)
        with pytest.raises(MemoryError):
            runner.reserve([Span(0, [1], 500, 1)])
    assert len(freed) == 1
    rows = [runner.step([Span(0, [token], 100 + n, 1)])[0].copy() for n, token in enumerate(ANSWER)]
    np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize(
    "then", ["grow", "restore into the source", "save", "drop and restore", "fill and grow"]
)
def test_a_copied_prefix_is_right_whatever_is_done_before_the_next_step(tmp_path: Path, then: str) -> None:
    """llama.cpp makes a copy between streams only with the next batch."""
    path = make_gguf(tmp_path / "model.gguf", q8_0=True)
    options = {"n_ctx": 512, "max_slots": 4, "n_threads": 1, "batch_invariant": True}
    spec = ModelSpec(name="t", format="gguf", path=str(path), options=options)
    runner, fresh = (LlamaCppRunner.load(spec, lambda _: None) for _ in range(2))
    length = 256 if then == "fill and grow" else 60  # 256 fill a stream
    prompt, other = ([3 + (a * i) % 200 for i in range(length)] for a in (7, 11))
    for slot, tokens in enumerate((prompt, other)):
        runner.step([Span(slot, tokens, 0, 1)])
    fresh.step([Span(0, prompt, 0, 1)])
    expected = fresh.step([Span(0, [9, 10], length, 1)])
    kept, others = (np.zeros(runner.saved_bytes(slot, length), np.uint8) for slot in (0, 1))
    runner.save(0, length, kept)
    runner.save(1, length, others)
    runner.truncate(1, 0)
    runner.truncate(2, 0)
    copy = 2
    if then == "drop and restore":
        runner.restore(1, length, others)
        runner.copy_prefix(1, 2, length)
        runner.truncate(2, 0)
        runner.restore(2, length, kept)
    else:
        runner.copy_prefix(0, 2, length)
        if then in ("grow", "fill and grow"):
            runner.reserve([Span(2, [1], 511, 1)])
        elif then == "save":
            runner.save(2, length, kept)
            runner.restore(copy := 3, length, kept)
        else:
            runner.restore(0, length, others)
    np.testing.assert_array_equal(runner.step([Span(copy, [9, 10], length, 1)]), expected)


def test_prompts_of_several_requests_run_in_one_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_gguf(tmp_path / "model.gguf")
    spec = ModelSpec(
        name="tiny", format="gguf", path=str(path), options={"n_ctx": 64, "max_slots": 4, "n_threads": 1}
    )
    together = LlamaCppRunner.load(spec, lambda _: None)
    one_by_one = LlamaCppRunner.load(spec, lambda _: None)
    batches = []
    decode = LlamaCppRunner._decode

    def record(runner: LlamaCppRunner, spans: Sequence[Span]) -> NDArray[np.float32]:
        if runner is together:
            batches.append([span.slot for span in spans])
        return decode(runner, spans)

    monkeypatch.setattr(LlamaCppRunner, "_decode", record)
    prompts = [Span(2, [5, 6, 7], 0, 1), Span(0, [8, 9, 10, 11], 0, 1), Span(1, [12, 13], 0, 0)]
    rows = together.step(prompts).copy()
    assert batches == [[0, 1, 2]]
    expected = [one_by_one.step([span]).copy() for span in prompts]
    np.testing.assert_allclose(rows, np.concatenate(expected), atol=1e-3)
