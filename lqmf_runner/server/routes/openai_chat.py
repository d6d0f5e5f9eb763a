"""POST /v1/chat/completions."""

from __future__ import annotations

from typing import Any

from litestar import Request

from ...openai_api.chat import ChatExchange
from ...openai_api.schemas import ChatCompletion, ChatCompletionRequest
from ..answers.answer import Answer, answer_exchange
from ..route import MODEL, OPENAI, Body, route

_QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
_CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 40}, "population": {"type": "integer"}},
    "required": ["city", "population"],
    "additionalProperties": False,
}
_EXAMPLES = {
    "An answer": {"model": MODEL, "messages": _QUESTION, "max_tokens": 64, "temperature": 0},
    "A stream": {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You are a poet."},
            {"role": "user", "content": "Write two lines about the sea."},
        ],
        "max_tokens": 64,
        "seed": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    "JSON that matches a schema": {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Name a large city, as JSON."}],
        "max_tokens": 100,
        "response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": _CITY}},
    },
    "Log-probabilities": {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Is water wet? Answer yes or no."}],
        "max_tokens": 2,
        "logprobs": True,
        "top_logprobs": 3,
    },
}


@route(
    "POST",
    "/v1/chat/completions",
    tag="OpenAI",
    errors=OPENAI,
    body=Body(ChatCompletionRequest, _EXAMPLES),
    streams=True,
)
async def chat_completions(
    data: ChatCompletionRequest, request: Request[Any, Any, Any]
) -> Answer[ChatCompletion]:
    """Answer a conversation; with `stream`, as server-sent events."""
    return answer_exchange(request, ChatExchange(data))
