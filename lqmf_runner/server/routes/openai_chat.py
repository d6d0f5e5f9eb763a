"""POST /v1/chat/completions."""

from __future__ import annotations

from typing import Any

from litestar import Request, post

from ...openai_api.chat import ChatExchange
from ...openai_api.schemas import ChatCompletion, ChatCompletionRequest
from ..answers.body import json_body
from ..answers.exchange import answer_exchange
from ..answers.generation import Answer

ROUTE = "/v1/chat/completions"


@post(ROUTE, status_code=200, dto=json_body(ChatCompletionRequest), return_dto=None, tags=["OpenAI"])
async def chat_completions(
    data: ChatCompletionRequest, request: Request[Any, Any, Any]
) -> Answer[ChatCompletion]:
    """Answer a conversation; with `stream`, as server-sent events."""
    return answer_exchange(ROUTE, ChatExchange(data), request)
