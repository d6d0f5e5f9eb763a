"""POST /v1/responses, and the stored responses."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from litestar import Request
from litestar.params import Parameter

from ...errors import FieldError
from ...openai_api.responses.exchange import ResponseExchange
from ...openai_api.responses.schemas import DeletedResponse, InputItems, Response, ResponseRequest
from ..answers.answer import Answer, Streamed, answer
from ..answers.generation import Generation
from ..errors import HttpError
from ..guards.security import identity
from ..responses import KeptResponse
from ..route import MODEL, OPENAI, Body, route
from ..state import state_of

_ID = {"response_id": "resp_0123456789abcdef01234567"}
_CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 40}},
    "required": ["city"],
    "additionalProperties": False,
}
_EXAMPLES = {
    "An answer": {
        "model": MODEL,
        "instructions": "You answer in one sentence.",
        "input": "What is the capital of France?",
        "max_output_tokens": 64,
        "temperature": 0,
    },
    "A stream": {
        "model": MODEL,
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Write a line about the sea."}]}
        ],
        "max_output_tokens": 64,
        "stream": True,
    },
    "JSON that matches a schema": {
        "model": MODEL,
        "input": "Name a large city, as JSON.",
        "max_output_tokens": 100,
        "text": {"format": {"type": "json_schema", "name": "city", "schema": _CITY}},
    },
}
_KEPT = "it has expired, was deleted, or was made with store=false; the server keeps responses in memory"


@route(
    "POST",
    "/v1/responses",
    tag="OpenAI",
    errors=OPENAI,
    body=Body(ResponseRequest, _EXAMPLES),
    streams=True,
)
async def responses(data: ResponseRequest, request: Request[Any, Any, Any]) -> Answer[Response]:
    """Answer a conversation of items; with `stream`, as server-sent events.

    The response is stored for `previous_response_id`, unless `store` is false.
    """
    kept, owner = state_of(request).responses, identity(request)
    previous = _previous(data, request)

    def keep(response: Response) -> None:
        if response.store:
            kept.keep(owner, response, exchange.given, previous)

    exchange = ResponseExchange(
        data,
        previous.items if previous else (),
        lambda item_id: kept.find_item(owner, item_id),
        keep,
    )

    async def make(current: Generation) -> Response | Streamed:
        if exchange.stream:
            return Streamed([exchange.request], exchange.events())
        (whole,) = await current.complete([exchange.request])
        return exchange.answer(whole)

    return answer(
        request,
        make,
        model=exchange.model,
        keep_alive_s=exchange.keep_alive_s,
        stream=exchange.stream,
        session=_session(request, previous, exchange.begun()),
    )


@route("GET", "/v1/responses/{response_id:str}", tag="OpenAI", errors=OPENAI, parameters=_ID)
async def kept_response(
    response_id: str, request: Request[Any, Any, Any], stream: bool | None = None
) -> Response:
    """A stored response."""
    found = _kept(response_id, request)
    if stream:
        raise FieldError(
            "a kept response is not streamed again",
            param="stream",
            hint="leave it out to get the whole response",
        )
    return found.response


@route("DELETE", "/v1/responses/{response_id:str}", tag="OpenAI", errors=OPENAI, parameters=_ID)
async def delete_response(response_id: str, request: Request[Any, Any, Any]) -> DeletedResponse:
    """Delete a response. Responses that continue it keep their conversation."""
    _kept(response_id, request)
    state_of(request).responses.forget(identity(request), response_id)
    return DeletedResponse(response_id)


@route("POST", "/v1/responses/{response_id:str}/cancel", tag="OpenAI", errors=OPENAI, parameters=_ID)
async def cancel_response(response_id: str, request: Request[Any, Any, Any]) -> Response:
    """Refused, because a stored response has ended. A running one ends when its connection is closed."""
    _kept(response_id, request)
    raise HttpError(
        400,
        "only a response that runs in the background can be cancelled",
        hint="close the connection of a request to end it",
    )


@route("GET", "/v1/responses/{response_id:str}/input_items", tag="OpenAI", errors=OPENAI, parameters=_ID)
async def input_items(
    response_id: str,
    request: Request[Any, Any, Any],
    limit: Annotated[int, Parameter(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> InputItems:
    """The input items of a response, including those of the conversation before it."""
    items = _kept(response_id, request).input_items
    if order == "desc":
        items.reverse()
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise FieldError(f"there is no item {after[:60]!r}", param="after")
        items = items[ids.index(after) + 1 :]
    page = items[:limit]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return InputItems(page, first, last, has_more=len(items) > limit)


def _previous(data: ResponseRequest, request: Request[Any, Any, Any]) -> KeptResponse | None:
    asked = data.previous_response_id
    if not asked:
        return None
    found = state_of(request).responses.find(identity(request), asked)
    if found is None:
        raise FieldError(
            f"there is no response {asked[:60]!r} to continue",
            param="previous_response_id",
            hint=_KEPT,
            code="previous_response_not_found",
        )
    return found


def _session(request: Request[Any, Any, Any], previous: KeptResponse | None, response: Response) -> str:
    """The key that keeps a conversation at one version of a model: the client's own header, otherwise the beginning of
    the conversation.
    """
    if "x-session-id" in request.headers:
        return ""
    return previous.conversation if previous else response.id if response.store else ""


def _kept(response_id: str, request: Request[Any, Any, Any]) -> KeptResponse:
    found = state_of(request).responses.find(identity(request), response_id)
    if found is None:
        raise HttpError(404, f"there is no response {response_id[:60]!r}", hint=_KEPT)
    return found
