"""Conversations that come back from main memory, on real workers with tiny models of every runner."""

from __future__ import annotations

import gc
from typing import Any

import msgspec
import psutil
import pytest

from lqmf_runner.engine.local import LocalEngine
from lqmf_runner.errors import EngineLostError
from lqmf_runner.types import Completion, GenerationRequest, ModelSpec, PromptCacheUse, SamplingParams

from ...support.models.tiny import make_gguf

pytestmark = pytest.mark.asyncio(loop_scope="module")

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gguf": ("gguf-llama", {}),
    "gguf without flash attention": ("gguf-llama", {"flash_attn": False}),
    "gguf with a KV cache of 16 bits": ("gguf-llama", {"kv_type": "f16"}),
    "gguf Q8_0, batch_invariant": ("Q8_0", {"batch_invariant": True}),
    "transformers": ("transformers-qwen2", {}),
    "transformers with sliding windows": ("transformers-gemma2", {}),
    "bnb": ("bnb-llama", {}),
}


@pytest.fixture(scope="module")
def specs(specs: dict[str, ModelSpec], tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    """The contract's cases, and a model whose quantized kernels do not depend on the batch."""
    path = make_gguf(tmp_path_factory.mktemp("q8_0") / "model.gguf", q8_0=True)
    return specs | {"Q8_0": msgspec.structs.replace(specs["gguf-llama"], name="Q8_0", path=str(path))}


def case(specs: dict[str, ModelSpec], name: str, **options: Any) -> ModelSpec:
    options = {"max_slots": 1, "n_ctx": 512, "prompt_cache_mb": 100, **options}
    spec = specs[name]
    return msgspec.structs.replace(spec, options={**spec.options, **options})


def text(number: int, n: int = 70) -> str:
    """About n tokens."""
    return "".join(chr(97 + (number * 7 + i * (number + 3)) % 26) for i in range(n))


async def ask(engine: LocalEngine, prompt: str | tuple[int, ...], n: int = 12) -> Completion:
    sampling = SamplingParams(max_tokens=n, temperature=0, ignore_eos=True)
    if isinstance(prompt, str):
        return await engine.complete(GenerationRequest(prompt=prompt, sampling=sampling))
    return await engine.complete(GenerationRequest(prompt_tokens=prompt, sampling=sampling))


@pytest.mark.parametrize("name", CASES)
async def test_a_conversation_that_comes_back_is_answered_as_if_it_were_new(
    specs: dict[str, ModelSpec], name: str
) -> None:
    base, options = CASES[name]
    turns = [text(1) + more for more in ("", " second turn", " another second turn")]
    async with await LocalEngine.start(case(specs, base, **options)) as engine:
        fresh = []
        for turn in turns:
            await engine.reset_prefix_cache()
            fresh.append((await ask(engine, turn)).token_ids)
        await engine.reset_prefix_cache()
        assert engine.prompt_cache.prompts == 0
        back = []
        for number, turn in enumerate(turns):
            answer = await ask(engine, turn)
            back.append(answer.token_ids)
            assert (answer.usage.cached_tokens >= 69) == (number > 0)
            await ask(engine, text(2 + number))
            # Longer than llama.cpp's first stream: what was saved before is read into a larger one.
            await ask(engine, text(9, 300))
        assert back == fresh
        assert engine.prompt_cache.hits >= 2
        assert 0 < engine.prompt_cache.mb < 100
        assert (await engine.memory()).rss_mb > engine.prompt_cache.mb


async def test_scores_between_the_turns_change_nothing(specs: dict[str, ModelSpec]) -> None:
    async with await LocalEngine.start(case(specs, "gguf-llama")) as engine:
        first = await ask(engine, text(1))
        score = await engine.score(text(2))
        kept = engine.prompt_cache.prompts
        assert (await engine.score(text(2))) == score
        assert (kept, engine.prompt_cache.prompts) == (1, 1)
        again = await ask(engine, text(1))
        assert again.token_ids == first.token_ids
        assert engine.prompt_cache.hits == 1


async def test_of_sliding_windows_only_a_whole_prompt_comes_back(specs: dict[str, ModelSpec]) -> None:
    """llama.cpp saves only the last window of such layers, here of 24 tokens."""
    async with await LocalEngine.start(case(specs, "gguf-gemma2")) as engine:
        first = await ask(engine, text(1))
        going_on = (*await engine.tokenize(text(1)), *first.token_ids, *await engine.tokenize(" and on"))
        await ask(engine, text(2))
        back = await ask(engine, going_on)
        assert (engine.prompt_cache.hits, back.usage.cached_tokens) == (1, len(going_on) - len(" and on") - 1)
        await ask(engine, text(2))
        edited = await ask(engine, text(1) + " other")
        assert (engine.prompt_cache.hits, edited.usage.cached_tokens) == (1, 0)
        for prompt, answer in ((going_on, back), (text(1) + " other", edited)):
            await engine.reset_prefix_cache()
            assert (await ask(engine, prompt)).token_ids == answer.token_ids


async def test_a_window_that_moved_to_a_larger_cache_is_not_cut(specs: dict[str, ModelSpec]) -> None:
    async with await LocalEngine.start(case(specs, "gguf-gemma2", n_batch=200)) as engine:
        await ask(engine, text(1, 300))  # more than llama.cpp's first stream
        short = await ask(engine, text(1, 100))
        assert short.usage.cached_tokens == 0
        longer = await ask(engine, text(1, 120))
        assert longer.usage.cached_tokens > 90, "what was computed since can be cut"
        for n, answer in ((100, short), (120, longer)):
            await engine.reset_prefix_cache()
            assert (await ask(engine, text(1, n))).token_ids == answer.token_ids


async def test_a_dead_worker_takes_its_prompts_along(specs: dict[str, ModelSpec]) -> None:
    spec = case(specs, "gguf-llama")
    engine = await LocalEngine.start(spec)
    first = await ask(engine, text(1))
    await ask(engine, text(2))
    assert engine.prompt_cache.prompts == 1
    psutil.Process(engine.pid).kill()
    with pytest.raises(EngineLostError):
        await ask(engine, text(3), 200)
    await engine.close()
    assert not psutil.pid_exists(engine.pid)
    async with await LocalEngine.start(spec) as again:
        assert again.prompt_cache.prompts == 0
        answer = await ask(again, text(1))
        assert answer.usage.cached_tokens == 0
        assert answer.token_ids == first.token_ids


async def test_memory_can_be_taken_back(specs: dict[str, ModelSpec]) -> None:
    async with await LocalEngine.start(case(specs, "gguf-llama")) as engine:
        for number in range(4):
            await ask(engine, text(number))
        full = engine.prompt_cache
        await engine.shrink_prompt_cache(full.mb * 0.5)
        await engine.stats()  # answered after it
        assert 0 < engine.prompt_cache.mb <= full.mb * 0.5
        await engine.shrink_prompt_cache(0)
        await engine.stats()
        assert engine.prompt_cache.mb == 0


@pytest.mark.parametrize("options", [{"prompt_cache_mb": 0}, {"prefix_reuse": False}])
async def test_none_are_kept_where_that_is_off(specs: dict[str, ModelSpec], options: dict[str, Any]) -> None:
    async with await LocalEngine.start(case(specs, "gguf-llama", **options)) as engine:
        for number in (1, 2, 1):
            answer = await ask(engine, text(number))
        assert answer.usage.cached_tokens == 0
        assert engine.prompt_cache == PromptCacheUse()


async def test_under_pressure_the_longest_unused_prompts_go_and_answers_stay(
    specs: dict[str, ModelSpec],
) -> None:
    """Room for about four of twelve conversations, which come back in another order."""
    async with await LocalEngine.start(case(specs, "gguf-llama", prompt_cache_mb=0.2)) as engine:
        fresh = {}
        for number in range(12):
            fresh[number] = (await ask(engine, text(number))).token_ids
            assert engine.prompt_cache.mb <= 0.2
        assert 2 <= engine.prompt_cache.prompts < 11
        cached = {}
        for number in (10, 0, 9, 11, 1, 10):
            answer = await ask(engine, text(number))
            assert answer.token_ids == fresh[number]
            assert engine.prompt_cache.mb <= 0.2
            cached[number] = answer.usage.cached_tokens
        assert cached[10] > 60
        assert max(cached[0], cached[1]) < 60, "they were gone"


async def test_memory_is_back_after_a_close_with_the_cache_full(specs: dict[str, ModelSpec]) -> None:
    def used() -> int:
        gc.collect()
        me = psutil.Process()
        return sum(process.memory_info().rss for process in (me, *me.children(recursive=True)))

    before = used()
    for _ in range(3):
        async with await LocalEngine.start(case(specs, "gguf-llama", prompt_cache_mb=2)) as engine:
            for number in range(24):
                await ask(engine, text(number, 300), 2)
            cache = engine.prompt_cache
            assert cache.limit_mb - cache.mb < 2 * cache.mb / cache.prompts, "it is full"
        assert used() - before < 20e6
