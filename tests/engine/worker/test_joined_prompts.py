"""Random mixes of requests on llama.cpp, whose prompts run in common batches, against each request alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lqmf_runner.engine.worker.runners.base import Span
from lqmf_runner.engine.worker.runners.llama_cpp import LlamaCppRunner
from lqmf_runner.types import ModelSpec, TokenLogprob, joined
from tests.support.engine.scheduling import Bench
from tests.support.models.tiny import make_gguf, vocabulary

SLOTS, N_BATCH, MIXES = 16, 64, 12
LENGTHS = (1, 2, 3, 9, 26, 30, 31, N_BATCH - 1, N_BATCH, N_BATCH + 1, 150)
ATOL = 0.02  # keys and values are rounded to 11 bits

Asked = tuple[str, list[int], int]
"""A kind of request, its prompt, and how many tokens are wanted."""


def requests(rng: random.Random, count: int) -> list[Asked]:
    """Prompts of all lengths, half of which begin like others."""
    prefixes = [[rng.randrange(3, len(vocabulary())) for _ in range(n)] for n in (33, 40, 100)]
    found: list[Asked] = []
    for _ in range(count):
        prompt = list(rng.choice(prefixes)) if rng.random() < 0.5 else []
        prompt += [rng.randrange(3, len(vocabulary())) for _ in range(rng.choice(LENGTHS))]
        found.append((rng.choice(("answer", "answer", "score")), prompt, rng.choice((1, 2, 5))))
    return found


def add(bench: Bench, request_id: int, asked: Asked) -> None:
    kind, prompt, n_tokens = asked
    if kind == "score":
        bench.score(request_id, prompt)
    else:
        bench.add(request_id, prompt, max_tokens=n_tokens, ignore_eos=True, logprobs=5)


def check(bench: Bench, request_id: int, asked: Asked, alone: Bench, *, exact: bool) -> None:
    """The same numbers as alone; where rounding may differ, the same token unless two are almost equally likely."""
    assert not bench.failed
    if asked[0] == "score":
        found, expected = bench.replies[request_id], alone.replies[0]
        assert found.token_ids == expected.token_ids
        np.testing.assert_allclose(found.logprobs[1:], expected.logprobs[1:], atol=0 if exact else ATOL)
        return
    found, expected = joined(bench.chunks[request_id]), joined(alone.chunks[0])
    assert len(found.token_ids) == len(expected.token_ids) == asked[2]
    for one, other in zip(found.logprobs, expected.logprobs, strict=True):
        assert_near(one, other, exact=exact)
        if one.token_id != other.token_id:
            break


def assert_near(found: TokenLogprob, expected: TokenLogprob, *, exact: bool) -> None:
    if exact:
        assert found == expected
        return
    by_token = {token: logprob for token, _, logprob in expected.top}
    assert by_token[expected.token_id] - by_token[found.token_id] <= ATOL, "no near tie"
    np.testing.assert_allclose([v for *_, v in found.top], [v for *_, v in expected.top], atol=ATOL)


@pytest.mark.parametrize("exact", [False, True])
def test_a_mix_of_requests_gets_the_numbers_of_each_alone(
    exact: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"n_ctx": 512, "max_slots": SLOTS, "n_threads": 1, "n_batch": N_BATCH, "batch_invariant": exact}
    path = make_gguf(tmp_path / "model.gguf", q8_0=exact)
    spec = ModelSpec(name="tiny", format="gguf", path=str(path), options=options)
    runner = LlamaCppRunner.load(spec, lambda _: None)
    limits = {"n_batch": N_BATCH, "prefill_chunk": 32, "batch_invariant": exact}
    rng = random.Random(20261129)
    asked, alone = requests(rng, 40), []
    for each in asked:
        alone.append(Bench(runner=runner, **limits))
        add(alone[-1], 0, each)
        alone[-1].run()
        for slot in range(SLOTS):
            runner.truncate(slot, 0)
    batches, decode = [], LlamaCppRunner._decode

    def record(runner: LlamaCppRunner, spans: Sequence[Span]) -> np.ndarray:
        batches.append(sum(len(span.tokens) > 1 for span in spans))
        return decode(runner, spans)

    monkeypatch.setattr(LlamaCppRunner, "_decode", record)
    bench, cancelled = Bench(runner=runner, **limits), set[int]()
    for mix in range(MIXES):
        chosen = [rng.randrange(len(asked)) for _ in range(rng.choice((2, 4, 16, 20)))]
        chosen += chosen[:1] * rng.choice((0, 3))  # several answers to one prompt
        ids = [100 * mix + at for at in range(len(chosen))]
        waiting = list(zip(ids, chosen, strict=True))
        while waiting or bench.scheduler.n_requests:
            for request_id, which in waiting[: (n := rng.choice((0, 1, 20)))]:
                add(bench, request_id, asked[which])
            del waiting[:n]
            if rng.random() < 0.1 and (running := [r for r in bench.scheduler._running if not r.decoding]):
                gone = rng.choice(running).request.id
                cancelled.add(gone)
                bench.scheduler.cancel(gone)
            bench.scheduler.step()
        for request_id, which in zip(ids, chosen, strict=True):
            if request_id not in cancelled:
                check(bench, request_id, asked[which], alone[which], exact=exact)
    assert cancelled
    assert bench.scheduler.stats().cached_tokens > 0
    assert max(batches) == 1 if exact else max(batches) > 3


def test_an_answer_is_not_reused_where_one_row_has_other_kernels_than_a_prompt(tmp_path: Path) -> None:
    options = {"n_ctx": 512, "max_slots": 2, "n_threads": 1, "n_batch": N_BATCH, "batch_invariant": True}
    path = make_gguf(tmp_path / "model.gguf", q8_0=True)
    spec = ModelSpec(name="tiny", format="gguf", path=str(path), options=options)
    runner = LlamaCppRunner.load(spec, lambda _: None)
    rng, differences = random.Random(7), 0
    for _ in range(60):
        prompt = [rng.randrange(3, len(vocabulary())) for _ in range(40)]
        limits = {"n_batch": N_BATCH, "batch_invariant": True}
        bench, fresh = Bench(runner=runner, **limits), Bench(runner=runner, **limits)
        bench.add(0, prompt, max_tokens=60, ignore_eos=True)
        bench.run()
        longer = [*prompt, *bench.tokens(0), 5, 6]
        found = []
        for each in (bench, fresh):
            each.add(1, longer, max_tokens=2, ignore_eos=True, logprobs=5)
            each.run()
            found.append(joined(each.chunks[1]))
            for slot in range(2):
                runner.truncate(slot, 0)
        differences += found[0].logprobs != found[1].logprobs
        assert found[0].usage.cached_tokens == len(prompt)  # type: ignore[union-attr]
    assert differences == 0
