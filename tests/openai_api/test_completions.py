"""Completions from body to JSON, without a server."""

from __future__ import annotations

import pytest

from lqmf_runner.errors import FieldError
from lqmf_runner.openai_api.completions import MAX_ANSWERS
from lqmf_runner.types import Completion, Usage
from tests.support.server.fakes import FakeEngine
from tests.support.server.openai_bodies import completion


def said(text: str) -> Completion:
    return Completion(text=text, token_ids=(1,), finish_reason="stop", usage=Usage(prompt_tokens=1))


def test_prompts_are_texts_or_token_ids() -> None:
    assert [request.prompt for request in completion(prompt=["a", "b"]).requests] == ["a", "b"]
    assert [request.prompt_tokens for request in completion(prompt=[5, 6]).requests] == [(5, 6)]
    assert [request.prompt_tokens for request in completion(prompt=[[5], [6]]).requests] == [(5,), (6,)]
    assert completion().requests[0].sampling.max_tokens == 16
    assert completion(max_tokens=None).requests[0].sampling.max_tokens == 16, "null is as left out"
    assert completion(max_tokens=-1).requests[0].sampling.max_tokens is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": []}, "prompt"), ({"prompt": ["a", 1]}, "prompt"), ({"prompt": ["a"] * (MAX_ANSWERS + 1)}, "prompt"),
        ({"suffix": "x"}, "suffix"), ({"best_of": 3}, "best_of"), ({"max_tokens": 0}, "max_tokens"),
        ({"stream_options": "x"}, "stream_options"), ({"stop": 5}, "stop"), ({"keep_alive": "soon"}, "keep_alive"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_named(body: dict[str, object], param: str) -> None:
    with pytest.raises(FieldError) as caught:
        completion(**body)
    assert caught.value.param == param


async def test_each_choice_has_the_echo_of_its_prompt() -> None:
    exchange = completion(prompt=["a", "b"], n=2, echo=True)
    await exchange.prepare(FakeEngine(), {})
    answer = exchange.answer([said(text) for text in "1234"], Usage())
    assert [choice.text for choice in answer.choices] == ["a1", "a2", "b3", "b4"]
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]


async def test_prompts_may_be_scored_and_nothing_generated() -> None:
    exchange = completion(prompt="ab", echo=True, logprobs=1, max_tokens=0)
    assert (exchange.requests, exchange.n_choices) == ([], 1)
    known = {1: "\x01"}
    await exchange.prepare(FakeEngine(), known)
    assert known == {1: "\x01", 97: "a", 98: "b"}, "the texts of tokens are kept for later"
    (choice,) = exchange.answer([], Usage()).choices
    assert (choice.text, choice.finish_reason) == ("ab", "length")
    assert choice.logprobs is not None
    assert choice.logprobs.token_logprobs == [None, -1.0, -2.0]
