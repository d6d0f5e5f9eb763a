"""What every runner must do, whatever its format: run over each of them in a real worker process."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from lqmf_runner.engine.local import LocalEngine
from lqmf_runner.errors import InvalidRequestError, LqmfError
from lqmf_runner.types import Completion, GenerationRequest, Message, ModelSpec, SamplingParams

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPTS = [
    "a",
    "the cat",
    "numbers: 1 2 3 4 5",
    "x" * 70,
    "Où est la gare ?",
    "def f(x):",
    "no",
    "long " * 30,
]


def greedy(prompt: str, n: int = 24, **more: object) -> GenerationRequest:
    sampling = SamplingParams(max_tokens=n, temperature=0, ignore_eos=True, **more)  # type: ignore[arg-type]
    return GenerationRequest(prompt=prompt, sampling=sampling)


async def run_all(engine: LocalEngine, requests: list[GenerationRequest]) -> list[Completion]:
    return await asyncio.gather(*(engine.complete(request) for request in requests))


async def test_greedy_answers_are_the_same_alone_and_in_a_crowd(engine: LocalEngine) -> None:
    requests = [greedy(prompt) for prompt in PROMPTS]
    alone = [(await engine.complete(request)).token_ids for request in requests]
    crowd = [answer.token_ids for answer in await run_all(engine, requests)]
    assert crowd == alone
    assert len(set(alone)) > 4, "the prompts must matter"


async def test_a_reused_prefix_changes_no_answer(specs: dict[str, ModelSpec], engine: LocalEngine) -> None:
    first = await engine.complete(greedy("one shared beginning, " * 4 + "then this"))
    again = await engine.complete(greedy("one shared beginning, " * 4 + "then this"))
    other = await engine.complete(greedy("one shared beginning, " * 4 + "then that"))
    assert again.token_ids == first.token_ids
    assert again.usage.cached_tokens == again.usage.prompt_tokens - 1
    assert 80 <= other.usage.cached_tokens < other.usage.prompt_tokens
    spec = next(s for s in specs.values() if s.format == engine.info.format and engine_path(engine, s))
    without = ModelSpec(
        name="t", format=spec.format, path=spec.path, options=spec.options | {"prefix_reuse": False}
    )
    async with await LocalEngine.start(without) as fresh:
        answer = await fresh.complete(greedy("one shared beginning, " * 4 + "then that"))
        assert answer.usage.cached_tokens == 0
        assert answer.token_ids == other.token_ids


def engine_path(engine: LocalEngine, spec: ModelSpec) -> bool:
    architecture = engine.info.architecture.lower()
    return any(
        name in spec.path and name in architecture for name in ("llama", "qwen2", "mistral", "gemma2")
    ) or (spec.format == "gguf")


async def test_a_reset_cache_is_not_reused(engine: LocalEngine) -> None:
    await engine.complete(greedy("remember this prompt, please"))
    assert await engine.reset_prefix_cache()
    assert (await engine.complete(greedy("remember this prompt, please"))).usage.cached_tokens == 0


async def test_a_prefix_that_is_being_computed_is_shared(engine: LocalEngine) -> None:
    shared = "a long system prompt that all have in common. " * 2
    answers = await run_all(engine, [greedy(f"{shared} question {i}") for i in range(4)])
    assert sum(answer.usage.cached_tokens > 60 for answer in answers) >= 3


async def test_the_stream_joins_to_the_whole_answer(engine: LocalEngine) -> None:
    chunks = [chunk async for chunk in engine.generate(greedy("stream"))]
    whole = await engine.complete(greedy("stream"))
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert [t for chunk in chunks for t in chunk.token_ids] == list(whole.token_ids)
    assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].finish_reason == "length"


async def test_a_seed_fixes_the_text_at_any_concurrency(engine: LocalEngine) -> None:
    def seeded(seed: int) -> GenerationRequest:
        sampling = SamplingParams(max_tokens=16, temperature=1.5, seed=seed, ignore_eos=True)
        return GenerationRequest(prompt="seed", sampling=sampling)

    seeds = [1, 2, 3, -(2**63), 2**63 - 1, 7, 8, 9]
    alone = [(await engine.complete(seeded(seed))).token_ids for seed in seeds]
    crowd = [answer.token_ids for answer in await run_all(engine, [seeded(seed) for seed in seeds])]
    assert crowd == alone
    assert len(set(alone)) > 4


async def test_scores_are_those_of_a_plain_forward_pass(
    engine: LocalEngine, checkpoints: dict[str, Path]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    architecture = engine.info.architecture.lower()
    name = next(name for name in ("qwen2", "mistral", "gemma2", "llama") if name in architecture)
    model = AutoModelForCausalLM.from_pretrained(checkpoints[name], attn_implementation="eager")
    tokens = [(7 * i * i + 3 * i) % 250 + 3 for i in range(90)]
    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([tokens])).logits[0].double(), dim=-1)
    score = await engine.score(tokens)
    assert score.logprobs[0] is None
    tolerance = 1e-2 if engine.info.format == "gguf" else 1e-3
    for i in range(1, len(tokens)):
        expected = float(logprobs[i - 1, tokens[i]])
        assert score.logprobs[i] == pytest.approx(expected, abs=tolerance)
    agree = sum(
        score.greedy[i] == (int(logprobs[i - 1].argmax()) == tokens[i]) for i in range(1, len(tokens))
    )
    assert agree == len(tokens) - 1


async def test_reported_logprobs_are_the_scores(engine: LocalEngine) -> None:
    prompt = await engine.tokenize("logprobs")
    answer = await engine.complete(greedy("logprobs", 12, logprobs=5))
    score = await engine.score([*prompt, *answer.token_ids])
    for reported, scored in zip(answer.logprobs, score.logprobs[len(prompt) :], strict=True):
        assert reported.logprob == pytest.approx(scored, abs=2e-3)
        values = [value for _, _, value in reported.top]
        assert values == sorted(values, reverse=True)
        assert reported.top[0][0] == reported.token_id
        assert sum(math.exp(v) for v in values) <= 1.0001


async def test_a_stop_string_across_tokens_never_shows(engine: LocalEngine) -> None:
    letters = dict.fromkeys(await engine.tokenize("abcdefghijklmnopqrsuvwxyz"), 100.0)
    whole = await engine.complete(greedy("stop here", 40, logit_bias=letters))
    stop = whole.text[10:13]
    chunks = [
        chunk
        async for chunk in engine.generate(greedy("stop here", 40, logit_bias=letters, stop=(stop, "0")))
    ]
    assert "".join(chunk.text for chunk in chunks) == whole.text[: whole.text.index(stop)]
    assert chunks[-1].finish_reason == "stop"


async def test_a_character_is_never_split(engine: LocalEngine) -> None:
    bee = await engine.tokenize("🐝")
    assert len(bee) == 4
    texts = []
    for i in range(4):  # the prompt ends inside the character; bias forces its next byte
        request = greedy("x", 1, logit_bias={bee[i]: 100.0})
        texts.append((await engine.complete(request)).text)
    assert texts == ["\ufffd"] * 4
    assert await engine.detokenize(bee) == "🐝"


async def test_text_survives_the_tokenizer(engine: LocalEngine) -> None:
    text = "Grüße, 世界! 🎉 <|im_end|> the\n\ttab"
    tokens = await engine.tokenize(text)
    assert 2 not in tokens, "special tokens in plain text stay text"
    assert await engine.detokenize(tokens) == text


async def test_chat_goes_through_the_template(engine: LocalEngine) -> None:
    sampling = SamplingParams(max_tokens=4, temperature=0, ignore_eos=True)
    chat = GenerationRequest(messages=(Message("user", "hi"),), sampling=sampling)
    plain = GenerationRequest(prompt="<|im_start|>user\nhi<|im_end|>\n", sampling=sampling)
    assert (await engine.complete(chat)).token_ids == (await engine.complete(plain)).token_ids


async def test_an_answer_without_a_limit_ends_with_the_context(engine: LocalEngine) -> None:
    sampling = SamplingParams(max_tokens=None, temperature=0, ignore_eos=True)
    answer = await engine.complete(GenerationRequest(prompt="on and on", sampling=sampling))
    assert answer.finish_reason == "length"
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens == engine.info.n_ctx


async def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(engine: LocalEngine) -> None:
    with pytest.raises(InvalidRequestError, match=r"300 tokens.*256"):
        await engine.complete(
            GenerationRequest(prompt_tokens=(5,) * 300, sampling=SamplingParams(max_tokens=1))
        )


@pytest.mark.parametrize(
    "request_",
    [
        GenerationRequest(),
        GenerationRequest(prompt="a", messages=(Message("user", "b"),)),
        GenerationRequest(prompt=""),
        GenerationRequest(prompt_tokens=(10**6,)),
        GenerationRequest(prompt_tokens=(-1,)),
        GenerationRequest(messages=(Message("wizard", "b"),)),
        GenerationRequest(prompt="a", sampling=SamplingParams(temperature=float("nan"))),
        GenerationRequest(prompt="a", sampling=SamplingParams(temperature=-1)),
        GenerationRequest(prompt="a", sampling=SamplingParams(top_p=1.5)),
        GenerationRequest(prompt="a", sampling=SamplingParams(max_tokens=0)),
        GenerationRequest(prompt="a", sampling=SamplingParams(logprobs=21)),
        GenerationRequest(prompt="a", sampling=SamplingParams(logit_bias={10**6: 1.0})),
        GenerationRequest(prompt="a", sampling=SamplingParams(logit_bias={5: 101.0})),
    ],
)
async def test_a_bad_request_is_refused_and_the_engine_goes_on(
    engine: LocalEngine, request_: GenerationRequest
) -> None:
    with pytest.raises(InvalidRequestError):
        await engine.complete(request_)
    assert (await engine.complete(greedy("ok", 2))).usage.completion_tokens == 2


async def test_a_reader_that_leaves_frees_its_slot(engine: LocalEngine) -> None:
    endless = [engine.generate(greedy(f"endless {i}", 10_000)) for i in range(4)]
    for stream in endless:
        await anext(stream)
    waiting = asyncio.create_task(engine.complete(greedy("next", 2)))
    for stream in endless:
        await stream.aclose()
    answer = await waiting
    assert answer.usage.completion_tokens == 2
    assert (await engine.stats()).running == 0


async def test_a_full_queue_is_said_so(specs: dict[str, ModelSpec]) -> None:
    spec = specs["gguf-llama"]
    options = spec.options | {"max_slots": 1, "max_queue": 1}
    async with await LocalEngine.start(
        ModelSpec(name="t", format="gguf", path=spec.path, options=options)
    ) as engine:
        burst = [engine.complete(greedy(f"more {i}", 200)) for i in range(40)]
        results = await asyncio.gather(*burst, return_exceptions=True)
        refused = [r for r in results if isinstance(r, LqmfError) and r.status == 429]
        answered = [r for r in results if isinstance(r, Completion)]
        assert refused
        assert len(answered) >= 2
        assert len(refused) + len(answered) == 40
