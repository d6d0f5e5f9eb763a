"""Typed decisions: the prompts and labels that questions become."""

from __future__ import annotations

from lqmf_runner.decisions.api import parse_systemone
from lqmf_runner.decisions.decide import Option, Question, decide
from lqmf_runner.types import Message
from tests.support.engine.decisions import SYSTEMONE, Listener, answers


async def test_the_state_comes_first_and_every_option_has_a_label() -> None:
    _, engine, _ = await answers(SYSTEMONE, parse_systemone)
    texts = [request.messages[0].content for request, _ in engine.asked]  # type: ignore[index]
    assert texts == [
        '{"ticket":"charged twice"}\n\nBe fair.\n\nQuestion: Who?\nA: billing - payments\nB: sales\n'
        "Answer with the letter of one option only.",
        '{"ticket":"charged twice"}\n\nBe fair.\n\nQuestion: Today?\nyes: money is moving\n'
        "Answer with yes or no only.",
        '{"ticket":"charged twice"}\n\nBe fair.\n\nQuestion: How upset?\n0: calm\n1: annoyed\n2: furious\n'
        "Answer with the number of one level only.",
    ]
    assert [forms for _, forms in engine.asked] == [
        [["A", " A"], ["B", " B"]],
        [["yes", " yes", "Yes", " Yes"], ["no", " no", "No", " No"]],
        [["0", " 0"], ["1", " 1"], ["2", " 2"]],
    ]
    assert engine.asked[0][0].template_options == {"enable_thinking": False, "mood": "calm"}


async def test_a_question_joins_the_last_turn_of_the_user() -> None:
    engine, question = Listener(), Question(name="q", kind="yes_no", text="Really?")
    user, assistant = Message("user", "Hi."), Message("assistant", "Hello.")
    await decide(engine, [user], [question])  # type: ignore[arg-type]
    await decide(engine, [user, assistant], [question])  # type: ignore[arg-type]
    first, second = (request.messages for request, _ in engine.asked)
    asked = "Question: Really?\nAnswer with yes or no only."
    assert first == (Message("user", f"Hi.\n\n{asked}"),)
    assert second == (user, assistant, Message("user", asked))


async def test_a_model_without_a_chat_template_gets_a_plain_prompt() -> None:
    engine = Listener(chat_template=False)
    await decide(engine, "State.", [Question(name="q", kind="yes_no", text="Really?")])  # type: ignore[arg-type]
    assert engine.asked[0][0].prompt == "State.\n\nQuestion: Really?\nAnswer with yes or no only.\nAnswer:"


def test_many_options_get_labels_that_do_not_begin_one_another() -> None:
    options = tuple(Option(f"option {i}") for i in range(255))
    labels = Question(name="q", kind="choice", options=options).labels
    assert labels[:3] == ["AA", "AB", "AC"]
    assert len(set(labels)) == 255
    assert {len(label) for label in labels} == {2}
