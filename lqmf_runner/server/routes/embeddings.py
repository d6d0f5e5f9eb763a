"""POST /v1/embeddings, with models that give them."""

from __future__ import annotations

import base64
import struct
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, post
from litestar.types import Receive, Send
from msgspec import Meta

from ...errors import FieldError
from ...openai_api.sampling import keep_alive_seconds
from ...openai_api.schemas import KeepAlive, ModelName
from ...types import Usage
from ..answers.body import json_body
from ..answers.generation import Answer, generation, send_json
from ..services import services_of
from ..watch.observe import ServedRequest

ROUTE = "/v1/embeddings"
MAX_INPUTS = 2048


class EmbeddingRequest(msgspec.Struct, kw_only=True):
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


@post(ROUTE, status_code=200, dto=json_body(EmbeddingRequest), return_dto=None, tags=["OpenAI"])
async def embeddings(data: EmbeddingRequest, request: Request[Any, Any, Any]) -> Answer[EmbeddingList]:
    """A vector for each text."""
    texts = _texts(data)
    services = services_of(request)
    served = ServedRequest(ROUTE, data.model, False, 1, request.scope)
    keep_alive_s = keep_alive_seconds(data.keep_alive)

    async def answer(receive: Receive, send: Send) -> None:
        async with generation(services.pool, services.observer, served, receive, keep_alive_s) as current:
            embedded = await current.engine.embed(texts)
            found = [
                Embedding(index, _encoded(vector, data)) for index, vector in enumerate(embedded.vectors)
            ]
            n_tokens = embedded.prompt_tokens or 0  # not every endpoint counts
            served.usage = Usage(prompt_tokens=n_tokens)
            usage = EmbeddingUsage(n_tokens, n_tokens)
            await send_json(current, send, EmbeddingList(found, data.model, usage))

    return Answer(answer)


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
