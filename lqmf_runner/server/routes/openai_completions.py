"""POST /v1/completions."""

from __future__ import annotations

from typing import Any

from litestar import Request

from ...openai_api.completions import CompletionExchange
from ...openai_api.schemas import CompletionRequest, TextCompletion
from ..answers.answer import Answer, answer_exchange
from ..route import MODEL, OPENAI, Body, route

_EXAMPLES = {
    "Go on with a text": {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 32},
    "A stream": {
        "model": MODEL,
        "prompt": "def fibonacci(n):",
        "max_tokens": 64,
        "stop": "\n\n",
        "stream": True,
    },
    "Score a text": {
        "model": MODEL,
        "prompt": "The sky is blue",
        "max_tokens": 0,
        "echo": True,
        "logprobs": 1,
    },
}


@route(
    "POST",
    "/v1/completions",
    tag="OpenAI",
    errors=OPENAI,
    body=Body(CompletionRequest, _EXAMPLES),
    streams=True,
)
async def completions(data: CompletionRequest, request: Request[Any, Any, Any]) -> Answer[TextCompletion]:
    """Continue a text; with `stream`, as server-sent events."""
    return answer_exchange(request, CompletionExchange(data))
