"""POST /v1/systemone and /v1/decisions: typed questions, answered with a probability for every option."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from litestar import Request, post
from litestar.types import Receive, Send
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
from ...errors import FieldError
from ...openai_api.answers import new_id
from ...openai_api.sampling import keep_alive_seconds
from ..answers.body import json_body
from ..answers.generation import Answer, generation, send_json
from ..services import services_of
from ..watch.observe import ServedRequest

JSONObject = dict[str, Any]
Body = Annotated[
    JSONObject,
    Meta(
        description="`model`, what to decide about (`state` or `input`), and `questions`; nothing is generated."
    ),
]


@post("/v1/systemone", status_code=200, dto=json_body(JSONObject), return_dto=None, tags=["Decisions"])
async def system_one(data: Body, request: Request[Any, Any, Any]) -> Answer[JSONObject]:
    """Answer questions about a state, as llama-server, vLLM and `transformers serve` do."""

    def render(decision: Decision, asked: DecisionRequest, model: str) -> JSONObject:
        return {
            "id": new_id("sysone"),
            "created": int(time.time()),
            **render_systemone(decision, model=model),
        }

    return _answer("/v1/systemone", data, request, parse_systemone, render)


@post("/v1/decisions", status_code=200, dto=json_body(JSONObject), return_dto=None, tags=["Decisions"])
async def decide(data: Body, request: Request[Any, Any, Any]) -> Answer[JSONObject]:
    """Answer questions about an input, in OpenAI's shape or SGLang's, whichever the questions have."""

    def render(decision: Decision, asked: DecisionRequest, model: str) -> JSONObject:
        return render_decisions(decision, model=model, shape=asked.shape)

    return _answer("/v1/decisions", data, request, parse_decisions, render)


def _answer(
    route: str,
    data: JSONObject,
    request: Request[Any, Any, Any],
    parse: Callable[[Mapping[str, Any]], DecisionRequest],
    render: Callable[[Decision, DecisionRequest, str], JSONObject],
) -> Answer[JSONObject]:
    model = data.get("model")
    if not isinstance(model, str):
        raise FieldError("'model' is required, the name of a model", param="model")
    asked = parse(data)
    services = services_of(request)
    served = ServedRequest(route, model, False, 1, request.scope)
    keep_alive = data.get("keep_alive")
    if not isinstance(keep_alive, str | int | float | None):
        raise FieldError("'keep_alive' is not a duration", param="keep_alive")
    keep_alive_s = keep_alive_seconds(keep_alive)

    async def answer(receive: Receive, send: Send) -> None:
        async with generation(services.pool, services.observer, served, receive, keep_alive_s) as current:
            decision = await answer_questions(
                current.engine,
                asked.state,
                asked.questions,
                instructions=asked.instructions,
                template_options=asked.template_options,
            )
            await send_json(current, send, render(decision, asked, model))

    return Answer(answer)
