"""POST /tokenize and /detokenize, as in vLLM and llama-server."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request

from ...errors import FieldError
from ...openai_api.schemas import AnswerBody, ModelName
from ..route import MODEL, OPENAI, Body, route
from ..state import state_of


class TokenizeRequest(AnswerBody, kw_only=True):
    """The text is `prompt` (as vLLM calls it) or `content` (as llama-server does)."""

    model: ModelName
    prompt: str | None = None
    content: str | None = None
    add_special_tokens: bool | None = None
    add_special: bool | None = None


class Tokenized(msgspec.Struct):
    """Token ids, how many, and the longest context."""

    tokens: list[int]
    count: int
    max_model_len: int


class DetokenizeRequest(AnswerBody, kw_only=True):
    """Token ids."""

    model: ModelName
    tokens: list[int]


class Detokenized(msgspec.Struct):
    """The text, under both names."""

    prompt: str
    content: str


@route(
    "POST",
    "/tokenize",
    tag="OpenAI",
    errors=OPENAI,
    body=Body(TokenizeRequest, {"A text": {"model": MODEL, "prompt": "Hello, world"}}),
)
async def tokenize(data: TokenizeRequest, request: Request[Any, Any, Any]) -> Tokenized:
    """Token ids of a text, without the beginning-of-sequence token unless `add_special_tokens` is true."""
    text = data.prompt if data.prompt is not None else data.content
    if text is None:
        raise FieldError("'prompt' is required", param="prompt")
    special = bool(data.add_special_tokens or data.add_special)
    async with state_of(request).lease(data.model) as (_, engine):
        tokens = await engine.tokenize(text, special=special)
        return Tokenized(tokens, len(tokens), engine.info.n_ctx)


@route(
    "POST",
    "/detokenize",
    tag="OpenAI",
    errors=OPENAI,
    body=Body(DetokenizeRequest, {"Token ids": {"model": MODEL, "tokens": [5, 6, 7]}}),
)
async def detokenize(data: DetokenizeRequest, request: Request[Any, Any, Any]) -> Detokenized:
    """The text of token ids."""
    async with state_of(request).lease(data.model) as (_, engine):
        text = await engine.detokenize(data.tokens)
        return Detokenized(text, text)
