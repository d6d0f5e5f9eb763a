from __future__ import annotations

import random
import statistics

import pytest

from lqmf_runner.config import Prompt, PromptsConfig
from lqmf_runner.errors import RemoteEngineError, UserInputError
from lqmf_runner.load.closed_loop import ClosedLoop
from lqmf_runner.load.run import run_load
from lqmf_runner.load.synthetic import Length, Synthetic, exact_text
from lqmf_runner.types import SamplingParams
from tests.support.engine.scripted import Say, WordTokens

PROMPTS = PromptsConfig(name="t", entries=[Prompt(id="p", prompt="q")])


def engine() -> WordTokens:
    return WordTokens(lambda *_: [Say(0.0, "x")])


@pytest.mark.parametrize("tokens", [2, 3, 17, 64, 501])
async def test_a_prompt_has_exactly_as_many_tokens_as_asked_for(tokens: int) -> None:
    for seed in range(5):
        text = await exact_text(engine(), tokens, random.Random(seed))
        assert len(await engine().tokenize(text, special=True)) == tokens


async def test_ends_that_are_tokenized_differently_when_cut_are_mended() -> None:
    """A tokenizer that adds a token to every text that ends in a consonant."""

    class Awkward(WordTokens):
        async def tokenize(self, text: str, *, special: bool = False) -> list[int]:
            tokens = await super().tokenize(text, special=special)
            return [*tokens, 33] if text[-1] not in "aeiou " else tokens

    client = Awkward(lambda *_: [])
    for seed in range(20):
        text = await exact_text(client, 30, random.Random(seed))
        assert len(await client.tokenize(text, special=True)) == 30


async def test_the_engine_gets_the_prompt_as_it_is_and_answers_of_the_given_length() -> None:
    client = engine()
    made = await Synthetic(Length(20), Length(7)).conversations(client, 3)
    await run_load(client, ClosedLoop(1), made, SamplingParams(max_tokens=64, temperature=0.0))
    for request in client.requests:
        assert request.messages is None
        assert request.prompt is not None
        assert len(await client.tokenize(request.prompt, special=True)) == 20
        assert (request.sampling.max_tokens, request.sampling.ignore_eos) == (7, True)
        assert request.sampling.temperature == 0.0
    assert len({request.prompt for request in client.requests}) == 3


async def test_lengths_follow_their_distribution_and_the_seed() -> None:
    rng = random.Random(0)
    drawn = [Length(100, 20.0).draw(rng) for _ in range(4000)]
    assert abs(statistics.fmean(drawn) - 100) < 4 * 20 / 4000**0.5
    assert statistics.stdev(drawn) == pytest.approx(20, rel=0.05)
    assert min(Length(1, 5.0).draw(rng) for _ in range(200)) == 1
    shape = Synthetic(Length(40, 10.0), Length(16, 4.0), seed=3)
    first = await shape.conversations(engine(), 10)
    assert first == await shape.conversations(engine(), 10)
    assert len({c.output_tokens for c in first}) > 3
    assert first != await Synthetic(Length(40, 10.0), Length(16, 4.0), seed=4).conversations(engine(), 10)


async def test_an_endpoint_that_cannot_tokenize_is_named() -> None:
    class Mute(WordTokens):
        async def tokenize(self, text: str, *, special: bool = False) -> list[int]:
            raise RemoteEngineError("the endpoint answered 404")

    with pytest.raises(UserInputError, match="404") as caught:
        await Synthetic(Length(20), Length(7)).conversations(Mute(lambda *_: []), 1)
    assert "/tokenize" in caught.value.hint


async def test_a_prompt_shorter_than_what_the_model_puts_in_front_is_refused() -> None:
    with pytest.raises(UserInputError, match="1 tokens"):
        await Synthetic(Length(1), Length(7)).conversations(engine(), 1)
