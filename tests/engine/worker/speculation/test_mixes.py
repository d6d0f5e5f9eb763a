"""Random mixes of requests with drafts against each request alone and without, on both runners."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lqmf_runner.engine.protocol import PromptCacheChanged
from lqmf_runner.engine.worker.runners import runner_class
from lqmf_runner.engine.worker.runners.base import ModelRunner
from lqmf_runner.engine.worker.scheduler import Scheduler, SchedulerLimits
from lqmf_runner.types import Chunk, ModelSpec, PromptCacheUse, joined
from tests.support.engine.scheduling import Bench
from tests.support.models.tiny import make_checkpoint, make_gguf, vocabulary

from .test_ngrams import KnownCosts

MIXES, SLOTS, N_BATCH = 6, 3, 64
ATOL = 1e-3
FORMATS = {
    "gguf": {"kv_type": "f32", "flash_attn": False},
    "transformers": {"dtype": "float32", "device": "cpu"},
}

Asked = tuple[list[int], int, tuple[str, ...]]
"""A prompt, how many tokens are wanted, and the stop strings."""


class DraftingBench(Bench):
    def __init__(self, runner: ModelRunner, **limits: Any) -> None:
        super().__init__(runner=runner)
        self.use = PromptCacheUse()
        limits = {"n_batch": N_BATCH, "prefill_chunk": 32, **limits}
        self.scheduler = Scheduler(runner, SchedulerLimits(**limits), self._take, KnownCosts(0.02))

    def _take(self, events: list[Any]) -> None:
        super()._take(events)
        for event in events:
            if isinstance(event, PromptCacheChanged):
                self.use = event.use

    def ask(self, request_id: int, asked: Asked) -> None:
        prompt, n_tokens, stop = asked
        self.add(request_id, prompt, n_tokens, request_id % 3 == 0, ignore_eos=True, logprobs=5, stop=stop)


class Alone:
    """The answer to each request by itself, without drafts, on a model that holds nothing."""

    def __init__(self, runner: ModelRunner) -> None:
        self._runner = runner
        self._answers: dict[str, Chunk] = {}

    def answer(self, asked: Asked) -> Chunk:
        if repr(asked) not in self._answers:
            bench = DraftingBench(self._runner, speculation="off", prefix_reuse=False)
            bench.ask(0, asked)
            bench.run()
            self._answers[repr(asked)] = joined(bench.chunks[0])
        return self._answers[repr(asked)]


def requests(rng: random.Random, count: int) -> list[Asked]:
    """Half begin like others, and half end with a text that is repeated."""
    words = [rng.randrange(3, len(vocabulary())) for _ in range(400)]
    found: list[Asked] = []
    for _ in range(count):
        prompt = words[: rng.choice((40, 120))] if rng.random() < 0.5 else []
        at = rng.randrange(100)
        prompt += words[at : at + rng.choice((3, 26, 64, 130, 250, 290))]
        if rng.random() < 0.5:
            prompt += words[at : at + rng.choice((3, 7, 20))] * 3
        stop = ("th", chr(97 + rng.randrange(26))) if rng.random() < 0.3 else ()
        found.append((prompt, rng.choice((1, 8, 40, 80)), stop))
    return found


def check(found: Chunk, expected: Chunk) -> None:
    """The same answer, unless two tokens are almost equally likely."""
    for one, other in zip(found.logprobs, expected.logprobs, strict=False):
        np.testing.assert_allclose([v for *_, v in one.top], [v for *_, v in other.top], atol=ATOL)
        if one.token_id != other.token_id:
            by_token = {token: logprob for token, _, logprob in other.top}
            assert other.logprob - by_token[one.token_id] <= ATOL, "no near tie"
            return
    assert (found.token_ids, found.text, found.finish_reason) == (
        expected.token_ids,
        expected.text,
        expected.finish_reason,
    )


def choose(rng: random.Random, asked: Sequence[Asked], alone: Alone) -> list[Asked]:
    """The requests of a mix, of which some go on from the answer to another."""
    chosen = [rng.choice(asked) for _ in range(rng.choice((2, 4, 9)))]
    for each in list(chosen):
        prompt, _, stop = each
        if rng.random() < 0.3:
            longer = [*prompt, *alone.answer(each).token_ids, *prompt[: rng.choice((1, 5, 40))]]
            chosen.append((longer, rng.choice((8, 40)), stop))
    return chosen


@pytest.mark.parametrize("kind", FORMATS)
def test_a_mix_of_requests_with_drafts_gets_the_answers_of_each_alone(kind: str, tmp_path: Path) -> None:
    path = make_gguf(tmp_path / "model.gguf") if kind == "gguf" else make_checkpoint(tmp_path / "model")
    options = {"n_ctx": 1024, "max_slots": SLOTS, "n_threads": 1, "n_batch": N_BATCH, **FORMATS[kind]}
    spec = ModelSpec(name="tiny", format=kind, path=str(path), options=options)
    runner, fresh = (runner_class(kind).load(spec, lambda _: None) for _ in range(2))
    rng, alone = random.Random(20261129), Alone(fresh)
    asked = requests(rng, 12)
    bench, cancelled = DraftingBench(runner, prompt_cache_mb=0.3), set[int]()
    for mix in range(MIXES):
        chosen = choose(rng, asked, alone)
        waiting = list(enumerate(chosen, 100 * mix))
        answers = dict(waiting)
        while waiting or bench.scheduler.n_requests:
            n = rng.randrange(3) if bench.scheduler.n_requests < 4 else 0  # with more there are no drafts
            for request_id, each in waiting[:n]:
                bench.ask(request_id, each)
            del waiting[:n]
            gone = [r.request.id for r in bench.scheduler._running if r.ngrams.drafted]
            if gone and rng.random() < 0.05:
                cancelled.add(gone[0])
                bench.scheduler.cancel(gone[0])
            bench.scheduler.step()
        for at, slot in enumerate(
            bench.scheduler._prefixes.table.slots
        ):  # goes on from all that it is said to hold
            answers[100 * mix + 50 + at] = probe = [*slot.tokens, 5, 6], 4, ()
            bench.ask(100 * mix + 50 + at, probe)
            bench.run()
        assert not bench.failed
        for request_id, each in answers.items():
            if request_id not in cancelled:
                check(joined(bench.chunks[request_id]), alone.answer(each))
    stats = bench.scheduler.stats()
    assert stats.drafted_tokens > stats.accepted_tokens > 100
    assert stats.cached_tokens > 0
    assert bench.use.hits > 0
    assert cancelled
