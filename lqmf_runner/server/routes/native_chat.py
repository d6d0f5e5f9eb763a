"""POST /models/{name}/chat, and DELETE /models/{name}/sessions/{id}."""

from __future__ import annotations

import time
from typing import Any

from litestar import Request
from msgspec import UNSET

from ...errors import FieldError
from ...openai_api.bodies.answer_constraint import answer_constraint
from ...openai_api.bodies.messages import to_message
from ...openai_api.bodies.sampling import keep_alive_seconds, most_tokens, stop_strings
from ...openai_api.sse import encode_json, event
from ...types import Chunk, Completion, GenerationRequest, Message, SamplingParams, Usage
from ..answers.answer import Answer, Streamed, answer
from ..answers.generation import Generation
from ..errors import HttpError, native_error
from ..guards.security import identity
from ..route import MODEL, Body, route
from ..sessions import Turn
from ..state import state_of
from ..watch.observe import ServedRequest
from .schemas import ChatAnswer, ChatRequest, Forgotten

_SESSION = "docs"
_EXAMPLES = {
    "A message": {"message": "What is the capital of France?", "max_tokens": 64, "temperature": 0},
    "A stream, and a conversation that is kept": {
        "message": "My name is Ada. What is a good name for a cat?",
        "system": "You answer in one sentence.",
        "max_tokens": 64,
        "session_id": _SESSION,
        "stream": True,
    },
}


@route(
    "POST",
    "/models/{name:str}/chat",
    tag="Chat",
    body=Body(ChatRequest, _EXAMPLES),
    parameters={"name": MODEL},
    streams=True,
)
async def chat(name: str, data: ChatRequest, request: Request[Any, Any, Any]) -> Answer[ChatAnswer]:
    """Answer a message or a conversation; with `stream`, as server-sent events.

    Events are `{"response": "...", "done": false}`, those of a model's thoughts have `reasoning_content` beside an
    empty `response`; the last one has `"done": true` and all that the whole answer has, with an empty `response`.
    """
    sampling, turn = _sampling(data), Turn(_messages(data))
    if data.session_id is not None:
        key = (identity(request), name, data.session_id)
        turn = state_of(request).sessions.turn(key, turn.messages)

    async def make(current: Generation) -> ChatAnswer | Streamed:
        asked = GenerationRequest(messages=turn.messages, sampling=sampling)
        events = NativeEvents(current.request, turn, data.session_id)
        if data.stream:
            return Streamed([asked], events)
        (whole,) = await current.complete([asked])
        turn.answered(whole.text)
        return events.answer(whole.text, whole)

    return answer(
        request,
        make,
        model=name,
        keep_alive_s=keep_alive_seconds(data.keep_alive),
        stream=data.stream,
        session=data.session_id or "",
        during=turn,
    )


@route(
    "DELETE",
    "/models/{name:str}/sessions/{session_id:str}",
    tag="Chat",
    parameters={"name": MODEL, "session_id": _SESSION},
)
async def forget_session(name: str, session_id: str, request: Request[Any, Any, Any]) -> Forgotten:
    """Delete a conversation."""
    if not state_of(request).sessions.forget((identity(request), name, session_id)):
        raise HttpError(404, "there is no such session", hint="it may have expired")
    return Forgotten(session_id)


class NativeEvents:
    """The events of one stream. At its end the turn is stored with its answer."""

    def __init__(self, served: ServedRequest, turn: Turn, session_id: str | None) -> None:
        self._served = served
        self._turn = turn
        self._session_id = session_id
        self._parts: list[str] = []
        self._reason = "stop"

    def chunks(self, index: int, chunks: list[Chunk]) -> bytes:
        """The events for some chunks."""
        out: list[bytes] = []
        for chunk in chunks:
            if chunk.reasoning:
                thoughts = encode_json(chunk.reasoning)
                out += (b'data: {"response":"","reasoning_content":', thoughts, b',"done":false}\n\n')
            if chunk.text:
                self._parts.append(chunk.text)
                out += (b'data: {"response":', encode_json(chunk.text), b',"done":false}\n\n')
            self._reason = chunk.finish_reason or self._reason
        return b"".join(out)

    def end(self, usage: Usage) -> bytes:
        """The last event, with the figures."""
        self._turn.answered("".join(self._parts))
        whole = Completion(text="", token_ids=(), finish_reason=self._reason, usage=usage)
        return event(self.answer("", whole))

    def failed(self, error: Exception) -> bytes:
        """An error within the stream."""
        return event(native_error(error))

    def answer(self, text: str, whole: Completion) -> ChatAnswer:
        """The whole answer with its figures."""
        served, usage = self._served, whole.usage
        now = time.perf_counter()
        speed = (usage.completion_tokens - 1) / usage.decode_s if usage.decode_s else 0.0
        return ChatAnswer(
            response=text,
            model=served.model,
            version=served.version,
            tokens_generated=usage.completion_tokens,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            time_taken=now - served.began,
            time_to_first_token=(served.first_token or now) - served.began,
            tokens_per_second=max(speed, 0.0),
            finish_reason=whole.finish_reason,
            session_id=self._session_id,
            done=True,
            reasoning_content=whole.reasoning or UNSET,
        )


def _messages(data: ChatRequest) -> tuple[Message, ...]:
    if (data.message is None) == (data.messages is None):
        raise FieldError("give either 'message' or 'messages'", param="message")
    turns = [Message("user", data.message)] if data.message is not None else []
    turns += [to_message(message, index) for index, message in enumerate(data.messages or ())]
    if data.messages and data.messages[-1].prefix:
        raise FieldError(
            "prefix is not supported here", param="prefix", hint="POST /v1/chat/completions takes it"
        )
    if data.system is not None:
        if turns[0].role == "system":
            raise FieldError("'system' and a first message with that role exclude each other", param="system")
        turns.insert(0, Message("system", data.system))
    return tuple(turns)


def _sampling(data: ChatRequest) -> SamplingParams:
    return SamplingParams(
        max_tokens=most_tokens("max_tokens", data.max_tokens, None),
        temperature=data.temperature,
        top_p=data.top_p,
        top_k=max(data.top_k, 0),
        min_p=data.min_p,
        seed=data.seed,
        stop=stop_strings(data.stop),
        repetition_penalty=data.repeat_penalty,
        constraint=answer_constraint(data),
    )
