"""Which answers are graded, and whose answers they are compared with."""

from __future__ import annotations

import pytest

from lqmf_runner.config import JudgeConfig
from lqmf_runner.evaluation.grading.answers import Opponent, choose_opponent, first_answers
from lqmf_runner.results.schema import RequestRecord

ANSWERS = {"a": {"p": "x"}, "b": {"p": "y"}}
REFERENCE = Opponent("ref", {"p": "z"})


def record(prompt: str, text: str, turn: int = 0, error: str | None = None) -> RequestRecord:
    return RequestRecord(model="a", load="c1", prompt_id=prompt, turn=turn, user=0, text=text, error=error)


def test_the_first_whole_answer_to_the_first_turn_is_graded() -> None:
    records = [
        record("q", "half", error="lost"), record("p", "one"), record("p", "two"), record("p", "next", turn=1),
        record("q", "whole"), record("r", "late", turn=1),
    ]  # fmt: skip
    found = first_answers(records, ["q", "p", "r"])
    assert found == {"q": "whole", "p": "one"}
    assert list(found) == ["q", "p"], "in the order of the prompts"


@pytest.mark.parametrize(
    ("config", "reference", "chosen"),
    [
        (JudgeConfig(), REFERENCE, "ref"),
        (JudgeConfig(), None, "a"),
        (JudgeConfig(), Opponent("ref", {}), "a"),
        (JudgeConfig(), Opponent("b", {}), "b"),
        (JudgeConfig(against="b"), REFERENCE, "b"),
        (JudgeConfig(against="nobody"), REFERENCE, None),
        (JudgeConfig(pairwise=False), REFERENCE, None),
    ],
)
def test_the_opponent_is_the_reference_else_the_first_model(
    config: JudgeConfig, reference: Opponent | None, chosen: str | None
) -> None:
    found = choose_opponent(config, ANSWERS, reference)
    assert (found.name if found else None) == chosen


def test_a_single_model_has_no_opponent() -> None:
    assert choose_opponent(JudgeConfig(), {"a": {"p": "x"}, "b": {}}, None) is None
