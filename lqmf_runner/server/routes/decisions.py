"""POST /v1/systemone and /v1/decisions: typed questions, answered with a probability for every option."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from litestar import Request
from msgspec import Meta

from ...decisions.api import (
    DecisionRequest,
    parse_decisions,
    parse_systemone,
    render_decisions,
    render_systemone,
)
from ...decisions.decide import Decision
from ...decisions.decide import decide as answer_questions
from ...decisions.shapes import OpenAIDecisionsRequest, SGLangDecisionsRequest, SystemOneRequest
from ...errors import FieldError
from ...openai_api.answers import new_id
from ...openai_api.bodies.sampling import keep_alive_seconds
from ..answers.answer import Answer, answer
from ..answers.generation import Generation
from ..route import MODEL, OPENAI, Body, route

JSONObject = dict[str, Any]
Data = Annotated[
    JSONObject,
    Meta(
        description="`model`, what to decide about (`state` or `input`), and `questions`; nothing is generated."
    ),
]
_TICKET = "I was charged twice this month and nobody answers my mails. Please pay me back today."
_SYSTEM_ONE = {
    "A choice, a score, yes or no": {
        "model": MODEL,
        "state": _TICKET,
        "questions": {
            "team": {
                "type": "choice",
                "instructions": "Which team?",
                "criteria": {"billing": "payments", "sales": None},
            },
            "tone": {
                "type": "score",
                "instructions": "How upset?",
                "criteria": ["calm", "annoyed", "furious"],
            },
            "urgent": {"type": "noul", "instructions": "Is an answer needed today?"},
        },
    }
}
_DECISIONS = {
    "As OpenAI has them": {
        "model": MODEL,
        "input": _TICKET,
        "questions": [
            {"type": "predicate", "instructions": "The customer needs an answer today."},
            {
                "type": "choice",
                "instructions": "Which team?",
                "choices": [{"value": "billing"}, {"value": "sales"}],
            },
        ],
    },
    "As SGLang has them": {
        "model": MODEL,
        "input": _TICKET,
        "questions": [
            {"id": "urgent", "type": "yes_no", "question": "Is an answer needed today?"},
            {
                "id": "tone",
                "type": "score",
                "question": "How upset?",
                "levels": ["calm", "annoyed", "furious"],
            },
        ],
    },
}


@route(
    "POST",
    "/v1/systemone",
    tag="Decisions",
    errors=OPENAI,
    body=Body(JSONObject, _SYSTEM_ONE, (SystemOneRequest,)),
)
async def system_one(data: Data, request: Request[Any, Any, Any]) -> Answer[JSONObject]:
    """Answer questions about a state, as llama-server, vLLM and `transformers serve` do."""

    def render(decision: Decision, asked: DecisionRequest, model: str) -> JSONObject:
        return {
            "id": new_id("sysone"),
            "created": int(time.time()),
            **render_systemone(decision, model=model),
        }

    return _answer(data, request, parse_systemone, render)


@route(
    "POST",
    "/v1/decisions",
    tag="Decisions",
    errors=OPENAI,
    body=Body(JSONObject, _DECISIONS, (OpenAIDecisionsRequest, SGLangDecisionsRequest)),
)
async def decide(data: Data, request: Request[Any, Any, Any]) -> Answer[JSONObject]:
    """Answer questions about an input, in OpenAI's shape or SGLang's, whichever the questions have."""

    def render(decision: Decision, asked: DecisionRequest, model: str) -> JSONObject:
        return render_decisions(decision, model=model, shape=asked.shape)

    return _answer(data, request, parse_decisions, render)


def _answer(
    data: JSONObject,
    request: Request[Any, Any, Any],
    parse: Callable[[Mapping[str, Any]], DecisionRequest],
    render: Callable[[Decision, DecisionRequest, str], JSONObject],
) -> Answer[JSONObject]:
    model = data.get("model")
    if not isinstance(model, str):
        raise FieldError("'model' is required, the name of a model", param="model")
    asked = parse(data)
    keep_alive = data.get("keep_alive")
    if not isinstance(keep_alive, str | int | float | None):
        raise FieldError("'keep_alive' is not a duration", param="keep_alive")

    async def make(current: Generation) -> JSONObject:
        decision = await answer_questions(
            current.engine,
            asked.state,
            asked.questions,
            instructions=asked.instructions,
            template_options=asked.template_options,
        )
        return render(decision, asked, model)

    return answer(request, make, model=model, keep_alive_s=keep_alive_seconds(keep_alive))
