"""What every runner must compute, whatever its format: each architecture in a real worker process."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from lqmf_runner.decisions.decide import Option, Question, decide
from lqmf_runner.engine.local import LocalEngine
from lqmf_runner.errors import InvalidRequestError
from lqmf_runner.types import GenerationRequest, ModelSpec, SamplingParams

from ...support.models.architectures import Reference
from ..conftest import NOISE, TOLERANCE
from .asking import greedy, run_all

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

References = Callable[[str], Reference]


async def test_greedy_answers_are_the_same_alone_and_in_a_batch(engine: LocalEngine) -> None:
    requests = [greedy(prompt) for prompt in PROMPTS]
    alone = [(await engine.complete(request)).token_ids for request in requests]
    together = [answer.token_ids for answer in await run_all(engine, requests)]
    assert together == alone
    assert len(set(alone)) > 4, "the prompts must matter"


async def test_drafts_change_no_greedy_answer(engine: LocalEngine) -> None:
    drafted = 0
    for prompt in ("one two three. " * 6, "ababab", "x" * 70):
        answer = await engine.complete(greedy(prompt, 48))
        prompt_tokens = await engine.tokenize(prompt, special=True)
        score = await engine.score([*prompt_tokens, *answer.token_ids])
        assert all(score.greedy[len(prompt_tokens) :]), "each token is the most likely one in a plain pass"
        drafted += answer.usage.drafted_tokens
        assert answer.usage.accepted_tokens <= answer.usage.drafted_tokens
    stats = await engine.stats()
    assert drafted > 0
    assert stats.drafted_tokens >= drafted


async def test_a_reused_prefix_changes_no_answer(specs: dict[str, ModelSpec], engine: LocalEngine) -> None:
    first = await engine.complete(greedy("one shared beginning, " * 4 + "then this"))
    again = await engine.complete(greedy("one shared beginning, " * 4 + "then this"))
    other = await engine.complete(greedy("one shared beginning, " * 4 + "then that"))
    assert again.token_ids == first.token_ids
    assert again.usage.cached_tokens == again.usage.prompt_tokens - 2
    assert 80 <= other.usage.cached_tokens < other.usage.prompt_tokens
    spec = specs[engine.info.name]
    without = msgspec.structs.replace(spec, options=spec.options | {"prefix_reuse": False})
    async with await LocalEngine.start(without) as fresh:
        answer = await fresh.complete(greedy("one shared beginning, " * 4 + "then that"))
        assert answer.usage.cached_tokens == 0
        assert answer.token_ids == other.token_ids


async def test_a_prefix_that_is_being_computed_is_shared(engine: LocalEngine) -> None:
    shared = "a long system prompt that all have in common. " * 2
    answers = await run_all(engine, [greedy(f"{shared} question {i}") for i in range(4)])
    assert sum(answer.usage.cached_tokens > 60 for answer in answers) >= 3


async def test_a_seed_fixes_the_text_at_any_concurrency(engine: LocalEngine) -> None:
    def seeded(seed: int) -> GenerationRequest:
        sampling = SamplingParams(max_tokens=16, temperature=1.5, seed=seed, ignore_eos=True)
        return GenerationRequest(prompt="seed", sampling=sampling)

    seeds = [1, 2, 3, -(2**63), 2**63 - 1, 7, 8, 9]
    alone = [(await engine.complete(seeded(seed))).token_ids for seed in seeds]
    together = [answer.token_ids for answer in await run_all(engine, [seeded(seed) for seed in seeds])]
    assert together == alone
    assert len(set(alone)) > 4


async def test_scores_are_those_of_a_plain_forward_pass(engine: LocalEngine, references: References) -> None:
    logprobs = references(engine.info.name).logprobs(NOISE)
    scores = await asyncio.gather(engine.score(NOISE), engine.complete(greedy("beside")), engine.score(NOISE))
    for score in (scores[0], scores[2]):
        assert score.token_ids == tuple(NOISE)
        assert (score.logprobs[0], score.greedy[0]) == (None, None)
        expected = logprobs[np.arange(len(NOISE) - 1), NOISE[1:]]
        np.testing.assert_allclose(score.logprobs[1:], expected, atol=TOLERANCE[engine.info.format])
        assert list(score.greedy[1:]) == (logprobs[:-1].argmax(axis=1) == NOISE[1:]).tolist()


async def test_scores_come_with_the_most_likely_alternatives(
    engine: LocalEngine, references: References
) -> None:
    logprobs = references(engine.info.name).logprobs(NOISE)
    score = await engine.score(NOISE, top=3)
    assert score.logprobs == (await engine.score(NOISE)).logprobs
    assert len(score.top) == len(NOISE)
    assert score.top[0] == ()
    for expected, top in zip(logprobs[:-1], score.top[1:], strict=True):
        values = [value for _, _, value in top]
        np.testing.assert_allclose(values, np.sort(expected)[-3:][::-1], atol=TOLERANCE[engine.info.format])
        np.testing.assert_allclose(
            values, expected[[token for token, _, _ in top]], atol=TOLERANCE[engine.info.format]
        )
        assert len({token for token, _, _ in top}) == 3
    for token, text, _ in score.top[1]:
        assert text == (await engine.detokenize([token]) or text)
    with pytest.raises(InvalidRequestError, match="logprobs"):
        await engine.score(NOISE, top=21)


async def test_greedy_answers_are_those_of_a_plain_forward_pass(
    engine: LocalEngine, references: References
) -> None:
    answers = await run_all(engine, [greedy(prompt) for prompt in PROMPTS])
    compared = 0
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        tokens = await engine.tokenize(prompt)
        clear = references(engine.info.name).greedy(tokens, 24, gap=2 * TOLERANCE[engine.info.format])
        assert list(answer.token_ids[: len(clear)]) == clear
        compared += len(clear)
    assert compared > 60, "enough choices are clear"


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


async def test_the_next_turn_of_a_conversation_computes_only_what_is_new(engine: LocalEngine) -> None:
    first = await engine.complete(greedy("a first turn that is long enough", 10))
    history = [*await engine.tokenize("a first turn that is long enough"), *first.token_ids]
    following = (*history, *await engine.tokenize(" and a second"))
    request = GenerationRequest(
        prompt_tokens=following, sampling=SamplingParams(max_tokens=10, temperature=0, ignore_eos=True)
    )
    turn = await engine.complete(request)
    assert turn.usage.cached_tokens >= len(history) - 1
    await engine.reset_prefix_cache()
    fresh = await engine.complete(request)
    assert fresh.usage.cached_tokens == 0
    assert fresh.token_ids == turn.token_ids


async def test_readers_that_come_and_go_disturb_no_answer(engine: LocalEngine) -> None:
    rng = random.Random(0)
    requests = [greedy(rng.choice(PROMPTS) + str(i % 5) * rng.randrange(40)) for i in range(24)]
    leaves_after = [rng.choice([None, None, 0, 1, 5]) for _ in requests]

    async def read(request: GenerationRequest, leave: int | None) -> list[int]:
        stream = engine.generate(request)
        tokens: list[int] = []
        async for chunk in stream:
            tokens.extend(chunk.token_ids)
            if leave is not None and len(tokens) > leave:
                break
        await stream.aclose()
        return tokens

    together = await asyncio.gather(*map(read, requests, leaves_after))
    for request, tokens in zip(requests, together, strict=True):
        whole = list((await engine.complete(request)).token_ids)
        assert tokens == whole[: len(tokens)]
    assert (await engine.stats()).running == 0


async def test_options_have_the_probability_of_a_plain_forward_pass(
    engine: LocalEngine, references: References
) -> None:
    prompt = await engine.tokenize("which one is it, then? ")
    request = GenerationRequest(prompt_tokens=tuple(prompt))
    scores = await engine.option_logprobs(request, [["A", "a"], ["the bee"], ["th", "bee"]])
    reference = references(engine.info.name)

    def logprob(text: list[int]) -> float:
        rows = reference.logprobs([*prompt, *text])
        return sum(rows[len(prompt) + i - 1, token] for i, token in enumerate(text))

    a, lower_a, th = [await engine.tokenize(text) for text in ("A", "a", "th")]
    expected = [
        np.logaddexp(logprob(a), logprob(lower_a)),
        logprob(await engine.tokenize("the bee")),
        logprob(th),
    ]
    np.testing.assert_allclose(scores.logprobs, expected, atol=5 * TOLERANCE[engine.info.format])
    assert scores.prompt_tokens == len(prompt)
    with pytest.raises(InvalidRequestError, match="'A' is the same as 'A'"):
        await engine.option_logprobs(request, [["A"], ["A", "B"]])
    with pytest.raises(InvalidRequestError, match="nothing"):
        await engine.option_logprobs(request, [["A"], [""]])


async def test_a_decision_computes_its_state_once(engine: LocalEngine) -> None:
    state = "My card was charged twice for one order, and nobody answers. "
    options = (Option("billing", "money"), Option("shipping"))
    questions = [
        Question(name="team", kind="choice", text="Who?", options=options),
        Question(name="urgent", kind="yes_no", text="Today?"),
        Question(name="tone", kind="score", options=(Option("calm"), Option("angry"), Option("furious"))),
    ]
    await engine.reset_prefix_cache()
    decision = await decide(engine, state, questions)
    assert [len(answer.probabilities) for answer in decision.answers] == [2, 2, 3]
    for answer in decision.answers:
        assert sum(answer.probabilities) == pytest.approx(1, abs=1e-12)
        assert 0 < answer.label_mass <= 1
    assert decision.cached_tokens >= 2 * len(await engine.tokenize(state)), "once for all three questions"
    alone = [await decide(engine, state, [question]) for question in questions]
    for together, single in zip(decision.answers, alone, strict=True):
        np.testing.assert_allclose(
            together.probabilities, single.answers[0].probabilities, atol=TOLERANCE[engine.info.format]
        )
    assert (await engine.stats()).running == 0
