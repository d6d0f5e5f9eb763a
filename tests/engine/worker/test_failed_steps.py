"""A step over several requests fails: only those end that cannot be computed, and no slot keeps what is left of it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np
import pytest

from lqmf_runner.engine.worker.runners.base import Span
from lqmf_runner.engine.worker.runners.llama_cpp import LlamaCppRunner
from lqmf_runner.errors import EngineError
from lqmf_runner.types import ModelSpec
from tests.support.engine.scheduling import Bench
from tests.support.models.tiny import make_gguf

PROMPTS = [[3 + (7 * i + 11 * n) % 200 for i in range(length)] for n, length in enumerate((24, 40, 31))]


@pytest.mark.parametrize("mixes_prompts", [True, False])
def test_of_a_step_that_fails_only_the_requests_fail_that_fail_alone(mixes_prompts: bool) -> None:
    bench = Bench(n_batch=64, prefill_chunk=64)
    bench.runner.mixes_prompts = mixes_prompts
    bench.add(0, [5], max_tokens=20)
    bench.run(1)
    for i in (1, 2, 3):
        bench.add(i, range(100 * i, 100 * i + 10))
    bench.runner.fails = lambda batch: len(batch) > 1 or 205 in batch[0].tokens
    bench.run()
    assert list(bench.failed) == [2]
    assert [bench.tokens(i) for i in (1, 3)] == [[110, 111, 112, 113], [310, 311, 312, 313]]
    assert bench.tokens(0) == list(range(6, 26))
    bench.add(4, [*range(200, 209), 7])
    bench.runner.fails = lambda batch: False
    bench.run()
    assert bench.tokens(4) == [8, 9, 10, 11]
    assert bench.chunks[4][-1].usage.cached_tokens == 0


def test_a_request_whose_slot_cannot_be_cut_back_after_a_failed_step_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(prefix_reuse=False)
    for i in (0, 1):
        bench.add(i, [10 * i])
    bench.run(1)
    plain = bench.runner.truncate

    def truncate(slot: int, n: int) -> None:
        if (slot, n) == (1, 1):
            raise EngineError("it cannot be cut back")
        plain(slot, n)

    monkeypatch.setattr(bench.runner, "truncate", truncate)
    bench.runner.fail_next = RuntimeError("boom")
    bench.run()
    assert {i: failed.message for i, failed in bench.failed.items()} == {1: "RuntimeError: boom"}
    assert bench.tokens(0) == [1, 2, 3, 4]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    path = make_gguf(tmp_path_factory.mktemp("tiny") / "model.gguf")
    options = {"n_ctx": 128, "max_slots": 3, "n_threads": 1, "n_batch": 128}
    return ModelSpec(name="tiny", format="gguf", path=str(path), options=options)


def alone(spec: ModelSpec, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """The answers to the prompts, each on a model that has computed nothing before."""
    answers = []
    for prompt in prompts:
        bench = Bench(runner=LlamaCppRunner.load(spec, lambda _: None))
        bench.add(0, prompt, max_tokens=8, ignore_eos=True)
        bench.run()
        answers.append(bench.tokens(0))
    return answers


def test_prompts_whose_batch_llama_cpp_cannot_compute_are_computed_alone(
    tiny: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(runner=LlamaCppRunner.load(tiny, lambda _: None))
    decode, failed = llama_cpp.llama_decode, list[int]()

    def fail_for_several(context: Any, batch: Any) -> int:
        slots = {batch.seq_id[at][0] for at in range(batch.n_tokens)}
        faulty = any(batch.token[at] == PROMPTS[1][-1] for at in range(batch.n_tokens) if batch.n_tokens > 1)
        if len(slots) > 1 or (faulty and slots == {1}):
            failed.append(len(slots))
            return 1
        return int(decode(context, batch))

    for i, prompt in enumerate(PROMPTS):
        bench.add(i, prompt, max_tokens=8, ignore_eos=True)
    with monkeypatch.context() as patched:
        patched.setattr(llama_cpp, "llama_decode", fail_for_several)
        bench.run()
    assert failed[:2] == [3, 1]
    assert {i: event.message for i, event in bench.failed.items()} == {
        1: "llama.cpp could not run this step: no room in the KV cache"
    }
    assert [bench.tokens(i) for i in (0, 2)] == alone(tiny, [PROMPTS[0], PROMPTS[2]])
    bench.add(3, PROMPTS[1], max_tokens=8, ignore_eos=True)
    bench.run()
    assert [bench.tokens(3)] == alone(tiny, [PROMPTS[1]])


def test_nothing_is_left_in_llama_cpp_of_a_batch_that_ended_half_way(tiny: ModelSpec) -> None:
    runner, fresh = (LlamaCppRunner.load(tiny, lambda _: None) for _ in range(2))
    nodes, limit = 0, 1 << 30

    def count(_: Any) -> bool:
        nonlocal nodes
        nodes += 1
        return nodes > limit

    callback = llama_cpp.ggml_abort_callback(count)
    llama_cpp.llama_set_abort_callback(runner._context, callback, ctypes.c_void_p())
    spans = [Span(slot, prompt, 0, 1) for slot, prompt in enumerate(PROMPTS)]
    runner.step(spans)
    for span in spans:
        runner.truncate(span.slot, 0)
    nodes, limit = 0, nodes - 1
    with pytest.raises(EngineError, match="aborted"):
        runner.step(spans)
    limit = 1 << 30
    found, expected = (np.concatenate([one.step([span]).copy() for span in spans]) for one in (runner, fresh))
    np.testing.assert_array_equal(found, expected)
