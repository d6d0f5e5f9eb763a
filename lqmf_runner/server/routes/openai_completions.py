"""POST /v1/completions."""

from __future__ import annotations

from typing import Any

from litestar import Request, post

from ...openai_api.completions import CompletionExchange
from ...openai_api.schemas import CompletionRequest, TextCompletion
from ..answers.body import json_body
from ..answers.exchange import answer_exchange
from ..answers.generation import Answer

ROUTE = "/v1/completions"


@post(ROUTE, status_code=200, dto=json_body(CompletionRequest), return_dto=None, tags=["OpenAI"])
async def completions(data: CompletionRequest, request: Request[Any, Any, Any]) -> Answer[TextCompletion]:
    """Go on with a text; with `stream`, as server-sent events."""
    return answer_exchange(ROUTE, CompletionExchange(data), request)
