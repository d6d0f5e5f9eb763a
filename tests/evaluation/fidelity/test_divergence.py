"""Greedy answers are collected, and where they first differ from the reference's is found."""

from __future__ import annotations

import pytest

from lqmf_runner.config import Prompt, PromptsConfig
from lqmf_runner.evaluation.fidelity.divergence import (
    answer_all,
    divergence,
    first_divergence,
    greedy_requests,
)
from tests.support.engine.bigram import BigramEngine, table


def test_first_divergence() -> None:
    assert first_divergence([1, 2, 3], [1, 2, 3]) is None
    assert first_divergence([1, 9, 3], [1, 2, 3]) == 1
    assert first_divergence([1, 2], [1, 2, 3]) == 2
    assert first_divergence([], [1]) == 0


def test_answers_that_never_part_lie_beyond_the_last_token() -> None:
    reference = {"a": [1, 2, 3, 4], "b": [1, 2, 3, 4], "c": [1, 2, 3, 4]}
    found = divergence({"a": [1, 2, 3, 4], "b": [1, 9, 9, 9], "c": [1, 2, 9, 9]}, reference, 4)
    assert (found.median, found.identical) == (2, pytest.approx(1 / 3))
    assert [(p.prompt, p.token) for p in found.first] == [("a", None), ("b", 1), ("c", 2)]
    assert divergence(reference, reference, 4).median is None


async def test_greedy_answers_are_collected_for_each_prompt() -> None:
    prompts = PromptsConfig(
        name="p",
        system="Be brief.",
        entries=[Prompt(id="one", prompt="hi"), Prompt(id="two", turns=["a", "b"])],
    )
    chat = greedy_requests(prompts, 5, chat=True)
    assert [m.content for m in chat["two"].messages or ()] == ["Be brief.", "a"]
    requests = greedy_requests(prompts, 5, chat=False)
    assert {r.sampling.temperature for r in requests.values()} == {0}
    answers = await answer_all(BigramEngine(table()), requests)
    assert {prompt: len(answer.token_ids) for prompt, answer in answers.items()} == {"one": 5, "two": 5}
    assert answers["two"].token_ids[0] == table()[ord("a")].argmax()
