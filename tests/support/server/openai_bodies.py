"""Bodies of requests, as exchanges."""

from __future__ import annotations

import json
from typing import Any

from lqmf_runner.openai_api.bodies.body import decode
from lqmf_runner.openai_api.chat import ChatExchange
from lqmf_runner.openai_api.completions import CompletionExchange
from lqmf_runner.openai_api.schemas import ChatCompletionRequest, CompletionRequest

TOOL = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}},
}


def chat(**body: Any) -> ChatExchange:
    """A chat with the given fields beside a model and a message."""
    whole = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **body}
    return ChatExchange(decode(ChatCompletionRequest, json.dumps(whole).encode()))


def completion(**body: Any) -> CompletionExchange:
    """A completion with the given fields beside a model and a prompt."""
    whole = {"model": "m", "prompt": "once", **body}
    return CompletionExchange(decode(CompletionRequest, json.dumps(whole).encode()))
