"""POST /v1/chat/completions."""

from __future__ import annotations

import time
from typing import Any

from litestar import Request, post
from litestar.types import Receive, Send

from ..types import Chunk, Completion, GenerationRequest, Message, Usage
from .body import json_body
from .errors import FieldError, error_body
from .generation import Answer, Generation, choices, generation, send_events, send_json
from .observe import ServedRequest
from .openai_common import choice_logprobs, keep_alive_seconds, new_id, sampling_params, usage_counts
from .openai_schemas import (
    AnswerMessage,
    ChatChoice,
    ChatCompletion,
    ChatCompletionRequest,
    ChatMessage,
)
from .services import services_of
from .sse import DONE, encode_json, event

ROUTE = "/v1/chat/completions"


@post(ROUTE, status_code=200, dto=json_body(ChatCompletionRequest), return_dto=None, tags=["OpenAI"])
async def chat_completions(
    data: ChatCompletionRequest, request: Request[Any, Any, Any]
) -> Answer[ChatCompletion]:
    """Answer a conversation; with `stream`, as server-sent events."""
    requests = choices(_generation_request(data), data.n or 1)
    served = ServedRequest(ROUTE, data.model, bool(data.stream), len(requests), request.scope)
    keep_alive_s = keep_alive_seconds(data.keep_alive)
    services = services_of(request)

    async def answer(receive: Receive, send: Send) -> None:
        async with generation(services.pool, services.observer, served, receive, keep_alive_s) as current:
            if data.stream:
                events = ChatEvents(data)
                await send_events(
                    current, requests, send, events=events.chunks, end=events.end, failed=events.failed
                )
            else:
                body = _completion(data, await current.complete(requests), current)
                current.done = True
                await send_json(send, body)

    return Answer(answer)


class ChatEvents:
    """The events of one stream. What is the same in all of them is encoded once."""

    def __init__(self, data: ChatCompletionRequest) -> None:
        self._include_usage = bool(data.stream_options and data.stream_options.include_usage)
        self._logprobs = bool(data.logprobs)
        self._begun: set[int] = set()
        self._head = {
            "id": new_id("chatcmpl"),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": data.model,
            "system_fingerprint": None,
        }
        head = encode_json(self._head)[:-1]
        usage = b',"usage":null' if self._include_usage else b""
        n = data.n or 1
        self._prefix = [
            b"data: " + head + usage + b',"choices":[{"index":%d,"delta":' % index for index in range(n)
        ]
        self._content = [prefix + b'{"content":' for prefix in self._prefix]
        self._suffix = b'},"logprobs":null,"finish_reason":null}]}\n\n'

    def chunks(self, index: int, chunks: list[Chunk]) -> bytes:
        """The events of some chunks of answer `index`."""
        out: list[bytes] = []
        if index not in self._begun:
            self._begun.add(index)
            out.append(self._event(index, b'{"role":"assistant","content":"","refusal":null}'))
        for chunk in chunks:
            if self._logprobs and chunk.logprobs:
                out.append(
                    self._event(
                        index,
                        b'{"content":' + encode_json(chunk.text) + b"}",
                        logprobs=encode_json(choice_logprobs(chunk.logprobs)),
                    )
                )
            elif chunk.text:
                out += (self._content[index], encode_json(chunk.text), self._suffix)
            if chunk.finish_reason is not None:
                out.append(self._event(index, b"{}", finish=encode_json(chunk.finish_reason)))
        return b"".join(out)

    def end(self, usage: Usage) -> bytes:
        """The counts if asked for, and the end."""
        if not self._include_usage:
            return DONE
        return event({**self._head, "choices": [], "usage": usage_counts(usage)}) + DONE

    def failed(self, error: Exception) -> bytes:
        """An error in mid-stream."""
        return event(error_body(error, ROUTE))

    def _event(
        self, index: int, delta: bytes, *, logprobs: bytes = b"null", finish: bytes = b"null"
    ) -> bytes:
        return b"".join(
            (self._prefix[index], delta, b',"logprobs":', logprobs, b',"finish_reason":', finish, b"}]}\n\n")
        )


def _generation_request(data: ChatCompletionRequest) -> GenerationRequest:
    if data.top_logprobs is not None and not data.logprobs:
        raise FieldError("top_logprobs needs logprobs=true", param="top_logprobs")
    if data.stream_options is not None and not data.stream:
        raise FieldError("stream_options needs stream=true", param="stream_options")
    max_tokens = data.max_completion_tokens if data.max_completion_tokens is not None else data.max_tokens
    logprobs = (data.top_logprobs or 0) if data.logprobs else None
    return GenerationRequest(
        messages=tuple(_message(message, index) for index, message in enumerate(data.messages)),
        sampling=sampling_params(data, max_tokens=max_tokens, logprobs=logprobs),
    )


def _message(message: ChatMessage, index: int) -> Message:
    role = "system" if message.role == "developer" else message.role
    return Message(role, _text(message, f"messages[{index}].content"), message.name)


def _text(message: ChatMessage, param: str) -> str:
    if isinstance(message.content, str):
        return message.content
    if message.content is None:
        raise FieldError(f"'{param}' is required", param=param)
    for number, part in enumerate(message.content):
        if part.type != "text" or part.text is None:
            raise FieldError(
                f"'{param}[{number}]' is not a text part",
                param=param,
                hint='parts are {"type": "text", "text": "..."}; images and sounds are not supported',
            )
    return "".join(part.text or "" for part in message.content)


def _completion(
    data: ChatCompletionRequest, answers: list[Completion], current: Generation
) -> ChatCompletion:
    return ChatCompletion(
        id=new_id("chatcmpl"),
        object="chat.completion",
        created=int(time.time()),
        model=data.model,
        choices=[
            ChatChoice(
                index=index,
                message=AnswerMessage("assistant", answer.text),
                logprobs=choice_logprobs(answer.logprobs) if data.logprobs else None,
                finish_reason=answer.finish_reason,
            )
            for index, answer in enumerate(answers)
        ],
        usage=usage_counts(current.usage),
    )
