"""POST /api/embed, and /api/embeddings, which came before it."""

from __future__ import annotations

from typing import Any

from litestar import Request

from ....engine import EngineClient
from ....errors import ContextLengthError, FieldError
from ....ollama_api.bodies import options_of, plain_name
from ....ollama_api.schemas import EmbedAnswer, EmbedRequest, OldEmbedAnswer, OldEmbedRequest
from ....openai_api.bodies.sampling import keep_alive_seconds
from ....types import Usage
from ...answers.answer import Answer, answer
from ...answers.generation import Generation
from ...route import MODEL, OLLAMA, Body, route
from .chat import figures

_RESERVED = 8  # tokens around a text, and those that its last, cut word may become
_TEXTS = {"Two texts": {"model": MODEL, "input": ["A cat sleeps.", "A dog barks."]}}
_TEXT = {"A text": {"model": MODEL, "prompt": "A cat sleeps."}}


@route("POST", "/api/embed", tag="Ollama", errors=OLLAMA, body=Body(EmbedRequest, _TEXTS))
async def embed(data: EmbedRequest, request: Request[Any, Any, Any]) -> Answer[EmbedAnswer]:
    """A vector for each text. One that is too long for the model is cut at its end, unless `truncate` is false."""
    options_of(data.options)
    if data.dimensions:
        raise FieldError(
            "'dimensions' is not supported: a vector has the size that its model gives", param="dimensions"
        )
    texts = [data.input] if isinstance(data.input, str) else data.input or []
    if not all(texts):
        raise FieldError("'input' has an empty text", param="input")

    async def make(current: Generation) -> EmbedAnswer:
        vectors = await _vectors(current, texts, truncate=data.truncate is not False)
        took = figures(current, current.usage)
        return EmbedAnswer(
            model=data.model,
            embeddings=vectors,
            total_duration=took.total_duration or 0,
            load_duration=took.load_duration or 0,
            prompt_eval_count=current.usage.prompt_tokens,
        )

    return answer(
        request, make, model=plain_name(data.model), keep_alive_s=keep_alive_seconds(data.keep_alive)
    )


@route("POST", "/api/embeddings", tag="Ollama", errors=OLLAMA, body=Body(OldEmbedRequest, _TEXT))
async def embeddings(data: OldEmbedRequest, request: Request[Any, Any, Any]) -> Answer[OldEmbedAnswer]:
    """The vector of one text; of an empty one there is none."""
    options_of(data.options)

    async def make(current: Generation) -> OldEmbedAnswer:
        vectors = await _vectors(current, [data.prompt] if data.prompt else [])
        return OldEmbedAnswer(vectors[0] if vectors else [])

    return answer(
        request, make, model=plain_name(data.model), keep_alive_s=keep_alive_seconds(data.keep_alive)
    )


async def _vectors(current: Generation, texts: list[str], *, truncate: bool = False) -> list[list[float]]:
    if not texts:
        return []
    engine = current.engine
    try:
        embedded = await engine.embed(texts)
    except ContextLengthError:
        if not (truncate and engine.info.n_ctx > _RESERVED):
            raise
        embedded = await engine.embed([await _cut(engine, text) for text in texts])
    current.request.usage = Usage(prompt_tokens=embedded.prompt_tokens or 0)
    return list(embedded.vectors)


async def _cut(engine: EngineClient, text: str) -> str:
    """As much of a text as fits into the context."""
    tokens, room = await engine.tokenize(text), engine.info.n_ctx - _RESERVED
    return text if len(tokens) <= room else await engine.detokenize(tokens[:room])
