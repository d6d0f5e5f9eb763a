"""Which prompts stay in main memory."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import psutil
import pytest

from lqmf_runner.cgroup import total_memory
from lqmf_runner.engine.worker.cache import prompts
from lqmf_runner.engine.worker.cache.prompts import Pages, PromptCache, limit_bytes
from lqmf_runner.engine.worker.cache.slots import MIN_SHARED, Kept, common_prefix


def cache(limit: int = 10_000, free: int = 1 << 40) -> PromptCache:
    return PromptCache(limit, lambda: free)


def put(cache: PromptCache, tokens: Sequence[int], n_bytes: int = 1000, value: int = 0) -> None:
    def fill(pages: Pages) -> None:
        assert pages.nbytes == n_bytes
        pages[:] = value

    cache.put(tokens, n_bytes, fill)


def story(number: int, n: int = 50) -> list[int]:
    return [1000 * number + i for i in range(n)]


def found(cache: PromptCache, tokens: Sequence[int]) -> Kept:
    kept = cache.find(tokens, len(tokens))
    assert kept is not None
    return kept


def test_the_longest_common_beginning_is_found() -> None:
    rng = random.Random(0)
    for _ in range(50):
        kept = cache()
        stories = [[rng.randrange(2) for _ in range(rng.randrange(MIN_SHARED, 90))] for _ in range(9)]
        shared = stories[0][: rng.randrange(len(stories[0]))]
        stories += [[*shared, *story(n, rng.randrange(40, 60))] for n in range(3)]
        for each in stories:
            put(kept, each, 1)
        prompt = [*rng.choice(stories), 7]
        most = rng.randrange(len(prompt) + 1)
        best = max(common_prefix(each, prompt[:most]) for each in stories)
        got = kept.find(prompt, most)
        assert (got.shared if got else 0) == (best if best >= MIN_SHARED else 0)


def test_an_entry_that_comes_back_whole_leaves_and_one_that_is_cut_stays() -> None:
    kept = cache()
    put(kept, story(1), value=7)
    whole = [*story(1), 5]
    edited = [*story(1)[:40], 5, 6]
    assert (found(kept, edited).shared, found(kept, edited).n_tokens) == (40, 50)
    for prompt in (edited, whole):
        entry = found(kept, prompt)
        assert set(kept.take(entry)) == {7}
        kept.count_hit(entry)
    assert kept.find(whole, len(whole)) is None
    assert kept.n_bytes == 0
    use = kept.changed_use()
    assert use is not None
    assert (use.hits, use.restored_tokens, use.tokens) == (2, 90, 0)
    assert kept.changed_use() is None


def test_the_beginning_of_another_entry_is_not_kept_beside_it() -> None:
    kept = cache()
    put(kept, story(1, 50))
    put(kept, story(1, 80), 1600)
    put(kept, story(1, 60), 1200)
    assert kept.n_bytes == 1600
    assert found(kept, story(1, 100)).shared == 80


def test_the_longest_unused_go_first_and_what_is_too_large_drops_nothing() -> None:
    kept = cache(limit=3000)
    for number in (1, 2, 3):
        put(kept, story(number))
    kept.take(found(kept, [*story(1)[:40], 9]))  # used, and it stays
    put(kept, story(4))
    put(kept, story(5), 3001)
    assert kept.n_bytes == 3000
    assert [kept.find(story(n), 50) is not None for n in (1, 2, 3, 4, 5)] == [True, False, True, True, False]
    kept.shrink(1500)
    assert [kept.find(story(n), 50) is not None for n in (1, 3, 4)] == [False, False, True]


def test_it_takes_no_memory_that_others_need() -> None:
    kept = cache(free=1500)
    put(kept, story(1))
    kept = cache(free=0)
    put(kept, story(1))
    assert kept.n_bytes == 0


def test_a_failed_copy_leaves_no_entry() -> None:
    kept = cache()

    def fill(pages: Pages) -> None:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        kept.put(story(1), 1000, fill)
    assert kept.n_bytes == 0
    assert kept.find(story(1), 50) is None


def test_its_memory_goes_back_to_the_system() -> None:
    kept = cache(limit=1 << 30)
    process = psutil.Process()
    before = process.memory_info().rss
    rng = random.Random(0)
    for number in range(40):
        put(kept, story(number), rng.randrange(1, 3_000_000), value=1)
    grown = process.memory_info().rss - before
    assert grown == pytest.approx(kept.n_bytes, abs=4e6)
    kept.shrink(0)
    assert process.memory_info().rss - before < 4e6


def test_the_default_is_a_tenth_of_the_memory() -> None:
    assert limit_bytes(None) == min(total_memory() // 10, 8 << 30)
    assert limit_bytes(0) == 0
    assert limit_bytes(1.5) == 1_500_000


def test_replicas_of_a_container_divide_a_tenth_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "total_memory", lambda: 4_000_000_000)
    assert limit_bytes(None, sharing=4) == 100_000_000
    assert limit_bytes(1.5, sharing=4) == 1_500_000  # what somebody sets is for each
    assert PromptCache(0).changed_use() is None


def test_pages_keep_what_was_written() -> None:
    kept = cache()
    kept.put(story(1), 256, lambda pages: np.copyto(pages, np.arange(256, dtype=np.uint8)))
    put(kept, story(2), 256, value=9)
    np.testing.assert_array_equal(kept.take(found(kept, story(1))), np.arange(256))
