"""The JSON of typed decisions that other servers' clients send and read."""

from __future__ import annotations

from typing import Any

import pytest

from lqmf_runner.decisions.api import parse_decisions, parse_systemone, render_decisions, render_systemone
from lqmf_runner.errors import InvalidRequestError
from tests.support.engine.decisions import SYSTEMONE, answers

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
