"""POST /api/chat and /api/generate."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from litestar import Request, Response

from ....errors import ConflictError, FieldError
from ....ollama_api.answers import Answering, ChatAnswering, GenerateAnswering, Piece, line, now
from ....ollama_api.bodies import chat_request, check_generate, generate_request, plain_name, thinking
from ....ollama_api.schemas import (
    AnswerTurn,
    Figures,
    GenerateAnswer,
    GenerateRequest,
    OllamaChatAnswer,
    OllamaChatRequest,
)
from ....openai_api.bodies.sampling import keep_alive_seconds
from ....types import GenerationRequest, Usage
from ...answers.answer import Answer, Streamed, answer
from ...answers.event_writer import Framing
from ...answers.generation import Generation
from ...route import MODEL, OLLAMA, Body, route
from ...state import state_of

LINES = "application/x-ndjson"
_NS = 1e9
_CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 40}},
    "required": ["city"],
    "additionalProperties": False,
}
_QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
_CHATS = {
    "A stream": {"model": MODEL, "messages": _QUESTION, "options": {"num_predict": 64, "temperature": 0}},
    "A whole answer, as JSON": {"model": MODEL, "messages": _QUESTION, "stream": False, "format": _CITY},
    "Load the model": {"model": MODEL, "keep_alive": "10m"},
}
_PROMPTS = {
    "A stream": {"model": MODEL, "prompt": "Why is the sky blue?", "options": {"num_predict": 64}},
    "Go on with a text": {
        "model": MODEL,
        "prompt": "Once upon a time",
        "raw": True,
        "stream": False,
        "options": {"num_predict": 32, "stop": ["\n\n"]},
    },
}


@route("POST", "/api/chat", tag="Ollama", errors=OLLAMA, body=Body(OllamaChatRequest, _CHATS), streams=LINES)
async def chat(data: OllamaChatRequest, request: Request[Any, Any, Any]) -> Response[OllamaChatAnswer]:
    """Answer a conversation, as a stream of lines unless `stream` is false."""
    if not data.messages:

        def loaded(reason: str) -> OllamaChatAnswer:
            return OllamaChatAnswer(
                model=data.model, created_at=now(), message=AnswerTurn(), done=True, done_reason=reason
            )

        return await _load(request, data, loaded)
    asked = chat_request(data)

    def ask(current: Generation) -> tuple[GenerationRequest, Answering]:
        return asked, ChatAnswering(data, partial(figures, current))

    return _answered(request, data, ask, ChatAnswering(data, _none))


@route(
    "POST",
    "/api/generate",
    tag="Ollama",
    errors=OLLAMA,
    body=Body(GenerateRequest, _PROMPTS),
    streams=LINES,
)
async def generate(data: GenerateRequest, request: Request[Any, Any, Any]) -> Response[GenerateAnswer]:
    """Answer a prompt, as a stream of lines unless `stream` is false."""
    check_generate(data)
    if not data.prompt:

        def loaded(reason: str) -> GenerateAnswer:
            return GenerateAnswer(
                model=data.model, created_at=now(), response="", done=True, done_reason=reason
            )

        return await _load(request, data, loaded)

    def ask(current: Generation) -> tuple[GenerationRequest, Answering]:
        asked = generate_request(data, chat_template=current.engine.info.chat_template)
        return asked, GenerateAnswering(data, partial(figures, current))

    return _answered(request, data, ask, GenerateAnswering(data, _none))


def figures(current: Generation, usage: Usage) -> Figures:
    """What an answer took. An engine elsewhere says no times; then they are those that were seen here."""
    ended, served = time.perf_counter(), current.request
    first = served.first_token or ended
    return Figures(
        total_duration=_ns(ended - served.began),
        load_duration=_ns(current.held - served.began),
        prompt_eval_count=usage.prompt_tokens,
        prompt_eval_duration=_ns(usage.prefill_s or first - current.held),
        eval_count=usage.completion_tokens,
        eval_duration=_ns(usage.decode_s or ended - first),
    )


def _answered(
    request: Request[Any, Any, Any],
    data: OllamaChatRequest | GenerateRequest,
    ask: Callable[[Generation], tuple[GenerationRequest, Answering]],
    idle: Answering,
) -> Answer[Any]:
    """The response, whole or streamed.

    Args:
        ask: what the model is asked, and what makes its answer into objects.
        idle: makes an empty object, which is sent into a silent stream.
    """
    stream = data.stream is not False

    async def make(current: Generation) -> Any:
        asked, answering = ask(current)
        if current.engine.info.thinks:
            asked = thinking(asked)
        elif data.think and current.model.spec.path:  # whether an endpoint's model thinks is not known
            raise FieldError(
                f"{plain_name(data.model)!r} does not support thinking", param="think", hint="leave it out"
            )
        if stream:
            return Streamed([asked], answering)
        (whole,) = await current.complete([asked])
        return answering.whole(whole, current.usage)

    return answer(
        request,
        make,
        model=plain_name(data.model),
        keep_alive_s=keep_alive_seconds(data.keep_alive),
        stream=stream,
        framing=Framing(LINES.encode(), line(idle.said(Piece(), done=False)), line),
    )


async def _load(
    request: Request[Any, Any, Any], data: OllamaChatRequest | GenerateRequest, loaded: Callable[[str], Any]
) -> Response[Any]:
    """Load the model, or unload it with `keep_alive: 0`: what any request for an answer does beside answering.

    Raises:
        ConflictError: a model that is pinned is to be unloaded.
        ModelNotFoundError: there is no such model.
    """
    name, keep_alive_s = plain_name(data.model), keep_alive_seconds(data.keep_alive)
    if keep_alive_s != 0:
        return answer(request, _made(loaded("load")), model=name, keep_alive_s=keep_alive_s)
    state = state_of(request)
    for target in await state.traffic.targets(name):
        model = state.pool.get(target)
        if model is None:
            await state.pool.catalog.find(target)
        elif model.pinned:
            raise ConflictError(f"{name} is pinned and stays loaded", hint=f"POST /models/{name}/unload")
        else:
            state.pool.retire(target)
    return Response(loaded("unload"))


def _made(body: Any) -> Callable[[Generation], Awaitable[Any]]:
    async def make(current: Generation) -> Any:
        return body

    return make


def _none(usage: Usage) -> Figures:
    return Figures()


def _ns(seconds: float) -> int:
    return max(0, round(seconds * _NS))
