"""Typed decisions: the prompts, the sums, and the JSON that other servers' clients send and read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from lqmf_runner.decisions.api import parse_decisions, parse_systemone, render_decisions, render_systemone
from lqmf_runner.decisions.decide import Decision, Option, Question, decide
from lqmf_runner.engine.options import PreparedOptions, encode_options
from lqmf_runner.errors import InvalidRequestError
from lqmf_runner.types import GenerationRequest, Message, ModelInfo, NextTokenLogprobs, OptionLogprobs

SYSTEMONE = {
    "model": "any",
    "state": {"ticket": "charged twice"},
    "instructions": "Be fair.",
    "chat_template_kwargs": {"mood": "calm"},
    "questions": {
        "team": {
            "type": "choice",
            "instructions": "Who?",
            "criteria": {"billing": "payments", "sales": None},
        },
        "urgent": {"type": "noul", "instructions": "Today?", "criteria": {"true": "money is moving"}},
        "tone": {"type": "score", "instructions": "How upset?", "criteria": ["calm", "annoyed", "furious"]},
    },
}
OPENAI = {
    "model": "any",
    "input": [{"role": "user", "content": [{"type": "input_text", "text": "charged twice"}]}],
    "questions": [
        {"type": "predicate", "name": "urgent", "instructions": "Answer today."},
        {"type": "choice", "instructions": "Refund?", "choices": [{"value": True}, {"value": "partly"}]},
        {"type": "score", "instructions": "Tone?", "levels": [{"label": "calm"}, {"label": "angry"}]},
    ],
}
SGLANG = {
    "input": "charged twice",
    "questions": [
        {
            "id": "team",
            "type": "choice",
            "question": "Who?",
            "options": [{"name": "billing"}, {"name": "sales"}],
        },
        {"id": "tone", "type": "score", "question": "Tone?", "levels": ["calm", "angry"]},
        {"id": "urgent", "type": "yes_no", "question": "Today?", "yes": "money is moving"},
    ],
}

YES_NO = {"type": "noul", "instructions": "x"}


class Listener:
    """An engine that keeps what it is asked and gives the options probabilities 0.4, 0.2, 0.1, ..."""

    def __init__(self, *, chat_template: bool = True) -> None:
        self.info = ModelInfo(
            name="l", format="l", method="", architecture="", bits=0, bits_per_weight=0, parameters=0, size_mb=0,
            weight_bytes=0, n_ctx=1, n_vocab=1, max_slots=4, device="", dtype="", chat_template=chat_template,
        )  # fmt: skip
        self.asked: list[tuple[GenerationRequest, list[list[str]]]] = []

    async def option_logprobs(
        self, request: GenerationRequest, options: Sequence[Sequence[str]]
    ) -> OptionLogprobs:
        self.asked.append((request, [list(forms) for forms in options]))
        logprobs = tuple(math.log(0.4 / 2**i) for i in range(len(options)))
        return OptionLogprobs(logprobs=logprobs, prompt_tokens=10, cached_tokens=5)


async def answers(body: dict[str, Any], parse: Any) -> tuple[Decision, Listener, Any]:
    engine, request = Listener(), parse(body)
    decision = await decide(
        engine, request.state, request.questions,  # type: ignore[arg-type]
        instructions=request.instructions, template_options=request.template_options,
    )  # fmt: skip
    return decision, engine, request


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


async def test_systemone_answers_as_its_clients_read_them() -> None:
    decision, _, _ = await answers(SYSTEMONE, parse_systemone)
    got = render_systemone(decision, model="m")
    third = pytest.approx(1 / 3)
    assert got == {
        "object": "structured_decision",
        "model": "m",
        "answers": {
            "team": {"type": "choice", "choice": "billing", "confidence": pytest.approx(2 / 3),
                     "probabilities": {"billing": pytest.approx(2 / 3), "sales": third}},
            "urgent": {"type": "noul", "noul": pytest.approx(2 / 3), "confidence": pytest.approx(2 / 3),
                       "probabilities": {"yes": pytest.approx(2 / 3), "no": third}},
            "tone": {"type": "score", "score": pytest.approx(4 / 7), "confidence": pytest.approx(4 / 7),
                     "legend": {"0": "calm", "1": "annoyed", "2": "furious"},
                     "probabilities": pytest.approx({"0": 4 / 7, "1": 2 / 7, "2": 1 / 7})},
        },
        "usage": {"input_tokens": 30, "output_tokens": 0},
        "diagnostics": {
            "team": {"label_mass": pytest.approx(0.6)},
            "urgent": {"label_mass": pytest.approx(0.6)},
            "tone": {"label_mass": pytest.approx(0.7)},
        },
    }  # fmt: skip


async def test_decisions_answer_in_openai_s_shape() -> None:
    decision, _, request = await answers(OPENAI, parse_decisions)
    got = render_decisions(decision, model="m", shape=request.shape)
    assert request.state == "charged twice"
    assert got["answers"] == [
        {"type": "predicate", "name": "urgent", "probability": pytest.approx(2 / 3)},
        {"type": "choice", "name": None, "choice": True, "confidence": pytest.approx(2 / 3), "probabilities": [
            {"value": True, "probability": pytest.approx(2 / 3)},
            {"value": "partly", "probability": pytest.approx(1 / 3)}]},
        {"type": "score", "name": None, "score": pytest.approx(1 / 3), "confidence": pytest.approx(2 / 3),
         "probabilities": [{"value": 0, "label": "calm", "probability": pytest.approx(2 / 3)},
                           {"value": 1, "label": "angry", "probability": pytest.approx(1 / 3)}]},
    ]  # fmt: skip
    assert got["usage"]["input_tokens"] == got["usage"]["total_tokens"] == 30
    assert got["usage"]["input_tokens_details"]["cached_tokens"] == 15


async def test_decisions_answer_in_sglang_s_shape() -> None:
    decision, _, request = await answers(SGLANG, parse_decisions)
    got = render_decisions(decision, model="m", shape=request.shape)
    two, mass = pytest.approx({"a": 2 / 3, "b": 1 / 3}), pytest.approx(0.6)
    assert got["answers"]["team"]["choice"] == "billing"
    assert got["answers"]["tone"]["score"] == pytest.approx(1 / 3)
    assert [answer["label_mass"] for answer in got["answers"].values()] == [mass] * 3
    for answer, names in zip(
        got["answers"].values(), (("billing", "sales"), "01", ("yes", "no")), strict=True
    ):
        assert dict(zip("ab", (answer["probabilities"][name] for name in names), strict=True)) == two
    assert got["usage"] == {"prompt_tokens": 30, "completion_tokens": 0}


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


def test_forms_are_added_up_and_long_labels_multiplied_out() -> None:
    encode = {"a": [1], " a": [2], "b": [3, 4], " b": [5, 6], "c": [3, 7]}.__getitem__
    prepared = PreparedOptions([9], encode_options([["a", " a"], ["b", " b"], ["c"]], encode))
    contexts = prepared.contexts()
    assert contexts == [([9], [1, 2, 3]), ([9, 3], [4, 7])]
    told = [[0.1, 0.2, 0.5], [0.25, 0.75]]
    given = [
        NextTokenLogprobs(logprobs=tuple(map(math.log, row)), cached_tokens=i) for i, row in enumerate(told)
    ]
    combined = prepared.combine(contexts, given)
    assert [math.exp(value) for value in combined.logprobs] == pytest.approx([0.3, 0.125, 0.375])
    assert (combined.prompt_tokens, combined.cached_tokens) == (1, 0)


def changed(body: dict[str, Any], question: Any, **more: Any) -> dict[str, Any]:
    questions = {"q": question} if body is SYSTEMONE else [question]
    return body | {"questions": questions} | more


@pytest.mark.parametrize(
    ("parse", "body"),
    [
        (parse_systemone, {}),
        (parse_systemone, SYSTEMONE | {"state": 5}),
        (parse_systemone, SYSTEMONE | {"questions": {}}),
        (parse_systemone, SYSTEMONE | {"questions": []}),
        (parse_systemone, SYSTEMONE | {"chat_template_kwargs": "x"}),
        (parse_systemone, changed(SYSTEMONE, None)),
        (parse_systemone, changed(SYSTEMONE, {"type": "essay"})),
        (parse_systemone, changed(SYSTEMONE, {"type": "noul"})),
        (parse_systemone, changed(SYSTEMONE, {"type": "noul", "instructions": "x", "criteria": {"maybe": "x"}})),
        (parse_systemone, changed(SYSTEMONE, {"type": "noul", "instructions": "x", "temperature": 2})),
        (parse_systemone, changed(SYSTEMONE, {"type": "choice", "instructions": "x", "criteria": {}})),
        (parse_systemone, changed(SYSTEMONE, {"type": "choice", "criteria": dict.fromkeys(map(str, range(256)))})),
        (parse_systemone, changed(SYSTEMONE, {"type": "score", "criteria": ["one"]})),
        (parse_systemone, changed(SYSTEMONE, {"type": "score", "criteria": ["x"] * 11})),
        (parse_systemone, changed(SYSTEMONE, {"type": "score", "criteria": ["x", " "]})),
        (parse_systemone, SYSTEMONE | {"questions": {f"{i}": YES_NO for i in range(65)}}),
        (parse_decisions, {}),
        (parse_decisions, {"input": "x", "questions": "y"}),
        (parse_decisions, {"input": "x", "questions": [5]}),
        (parse_decisions, OPENAI | {"input": [{"role": "assistant", "content": "x"}]}),
        (parse_decisions, OPENAI | {"input": [{"content": [{"type": "input_image", "image_url": "x"}]}]}),
        (parse_decisions, changed(OPENAI, {"type": "predicate"})),
        (parse_decisions, changed(OPENAI, {"type": "choice", "instructions": "x", "choices": [{"value": 3}]})),
        (parse_decisions, changed(OPENAI, {"type": "choice", "instructions": "x",
                                           "choices": [{"value": "a"}, {"value": "a"}]})),
        (parse_decisions, SGLANG | {"temperature": 2}),
        (parse_decisions, SGLANG | {"questions": [SGLANG["questions"][0]] * 2}),
        (parse_decisions, changed(SGLANG, {"id": "x", "type": "yes_no", "question": " "})),
    ],
)  # fmt: skip
def test_a_malformed_decision_is_refused(parse: Any, body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        parse(body)
