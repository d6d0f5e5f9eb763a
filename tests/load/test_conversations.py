"""The conversations of a load are made from a prompt set."""

from __future__ import annotations

import pytest

from lqmf_runner.config import Prompt, PromptsConfig
from lqmf_runner.errors import UserInputError
from tests.support.engine.scripted import planned

TALK = PromptsConfig(
    name="talk", system="Be kind.", entries=[Prompt(id="t", turns=["hi", "and then?", "bye"])]
)


def test_planned_requests_are_exactly_as_many_as_asked_for() -> None:
    mixed = PromptsConfig(name="x", entries=[Prompt(id="one", prompt="q"), *TALK.entries])
    for requests in range(1, 12):
        assert sum(len(c.turns) for c in planned(mixed, requests)) == requests


@pytest.mark.parametrize("entries", [[], [Prompt(id="a", prompt="  ")]])
def test_an_empty_prompt_set_is_refused(entries: list[Prompt]) -> None:
    with pytest.raises(UserInputError, match="is empty"):
        planned(PromptsConfig(name="mine", entries=entries), 4)
