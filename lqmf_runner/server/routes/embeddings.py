"""POST /v1/embeddings, with embedding models."""

from __future__ import annotations

import base64
import struct
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request
from msgspec import Meta

from ...errors import FieldError
from ...openai_api.bodies.sampling import keep_alive_seconds
from ...openai_api.schemas import AnswerBody, KeepAlive, ModelName
from ...types import Usage
from ..answers.answer import Answer, answer
from ..answers.generation import Generation
from ..route import MODEL, OPENAI, Body, route

MAX_INPUTS = 2048


class EmbeddingRequest(AnswerBody, kw_only=True):
    """The body of POST /v1/embeddings. `input`: a text, token ids, or a list of either."""

    model: ModelName
    input: str | Annotated[list[str | int | list[int]], Meta(min_length=1, max_length=MAX_INPUTS)]
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None
    keep_alive: KeepAlive = None
    user: str | None = None


class Embedding(msgspec.Struct):
    """The vector of one text; as base64, little-endian 32-bit floats."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingUsage(msgspec.Struct):
    """Token counts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct):
    """The answer of POST /v1/embeddings."""

    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    object: Literal["list"] = "list"


_EXAMPLES = {"Two texts": {"model": MODEL, "input": ["A cat sleeps.", "A dog barks."]}}


@route("POST", "/v1/embeddings", tag="OpenAI", errors=OPENAI, body=Body(EmbeddingRequest, _EXAMPLES))
async def embeddings(data: EmbeddingRequest, request: Request[Any, Any, Any]) -> Answer[EmbeddingList]:
    """A vector for each text."""
    texts = _texts(data)

    async def make(current: Generation) -> EmbeddingList:
        embedded = await current.engine.embed(texts)
        found = [Embedding(index, _encoded(vector, data)) for index, vector in enumerate(embedded.vectors)]
        n_tokens = embedded.prompt_tokens or 0  # not every endpoint reports it
        current.request.usage = Usage(prompt_tokens=n_tokens)
        return EmbeddingList(found, data.model, EmbeddingUsage(n_tokens, n_tokens))

    return answer(request, make, model=data.model, keep_alive_s=keep_alive_seconds(data.keep_alive))


def _texts(data: EmbeddingRequest) -> list[str | list[int]]:
    """The inputs, each a text or its token ids.

    Raises:
        FieldError: one is empty, they are mixed up, or a size is asked for.
    """
    if data.dimensions is not None:
        raise FieldError(
            "'dimensions' is not supported: a vector has the size that its model gives", param="dimensions"
        )
    given = [data.input] if isinstance(data.input, str) else data.input
    numbers = [item for item in given if isinstance(item, int)]
    if numbers and len(numbers) < len(given):
        raise FieldError("'input' mixes token ids with texts or lists", param="input")
    texts: list[str | list[int]] = [item for item in given if not isinstance(item, int)]
    if numbers:
        texts = [numbers]
    if not all(texts):
        raise FieldError("'input' has an empty text", param="input")
    return texts


def _encoded(vector: list[float], data: EmbeddingRequest) -> list[float] | str:
    if data.encoding_format != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
