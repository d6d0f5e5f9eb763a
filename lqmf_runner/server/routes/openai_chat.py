"""POST /v1/chat/completions."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from litestar import Request, post
from litestar.types import Receive, Send

from ...errors import FieldError
from ...openai_api.answers import choice_logprobs, keep_alive_seconds, new_id, sampling_params, usage_counts
from ...openai_api.constraints import answer_constraint, chosen_tools
from ...openai_api.schemas import (
    AnswerMessage,
    ChatChoice,
    ChatCompletion,
    ChatCompletionRequest,
    ChatMessage,
    ToolCall,
)
from ...openai_api.sse import encode_json
from ...openai_api.stream import ChoiceEvents
from ...openai_api.tool_calls import ToolCallReader
from ...types import Chunk, Completion, GenerationRequest, Message, Usage
from ..answers.body import json_body
from ..answers.generation import Answer, choices, generation, send_events, send_json
from ..services import services_of
from ..watch.observe import ServedRequest

ROUTE = "/v1/chat/completions"


@post(ROUTE, status_code=200, dto=json_body(ChatCompletionRequest), return_dto=None, tags=["OpenAI"])
async def chat_completions(
    data: ChatCompletionRequest, request: Request[Any, Any, Any]
) -> Answer[ChatCompletion]:
    """Answer a conversation; with `stream`, as server-sent events."""
    asked = _generation_request(data)
    requests = choices(asked, data.n or 1)
    served = ServedRequest(ROUTE, data.model, bool(data.stream), len(requests), request.scope)
    keep_alive_s = keep_alive_seconds(data.keep_alive)
    services = services_of(request)

    async def answer(receive: Receive, send: Send) -> None:
        async with generation(services.pool, services.observer, served, receive, keep_alive_s) as current:
            if data.stream:
                kind = partial(ToolEvents, new_reader=partial(_reader, data)) if asked.tools else ChatEvents
                events = kind(
                    model=data.model,
                    n=len(requests),
                    include_usage=bool(data.stream_options and data.stream_options.include_usage),
                    logprobs=bool(data.logprobs),
                )
                await send_events(current, requests, send, events)
            else:
                answers = await current.complete(requests)
                await send_json(current, send, _completion(data, asked, answers, current.usage))

    return Answer(answer)


class ChatEvents(ChoiceEvents):
    """`chat.completion.chunk`: the first delta has the role, the last is empty and has the reason."""

    kind = "chat.completion.chunk"
    id_prefix = "chatcmpl"
    opening = b'"delta":{"content":'
    closing = b"}"

    def begin(self, index: int) -> list[bytes]:
        """The delta with the role."""
        return [self.event(index, b'"delta":{"role":"assistant","content":"","refusal":null}')]

    def finish(self, index: int, reason: str) -> list[bytes]:
        """An empty delta with the reason."""
        return [self.event(index, b'"delta":{}', finish=encode_json(reason))]

    def logprobs(self, index: int, chunk: Chunk) -> Any:
        """Those of a chunk's tokens."""
        return choice_logprobs(chunk.logprobs)


class ToolEvents(ChatEvents):
    """The same for requests with tools: calls are held back until they are whole, and sent as such."""

    def __init__(self, *, new_reader: Callable[[], ToolCallReader], **options: Any) -> None:
        super().__init__(**options)
        self._readers = defaultdict[int, ToolCallReader](new_reader)

    def text(self, index: int, chunk: Chunk) -> list[bytes]:
        """Plain text goes out; what may be a call waits."""
        reader = self._readers[index]
        return self._out(index, chunk, *reader.feed(chunk.text))

    def finish(self, index: int, reason: str) -> list[bytes]:
        """What was still held back, then the reason: "tool_calls" where there are any."""
        reader = self._readers[index]
        out = self._out(index, Chunk(), *reader.end())
        return out + super().finish(index, "tool_calls" if reader.n_calls and reason == "stop" else reason)

    def _out(self, index: int, chunk: Chunk, text: str, calls: list[ToolCall]) -> list[bytes]:
        out = []
        if text or (self._logprobs and chunk.logprobs):
            out += super().text(index, msgspec.structs.replace(chunk, text=text))
        first = self._readers[index].n_calls - len(calls)
        for number, call in enumerate(calls, first):
            delta = {"tool_calls": [{"index": number, **msgspec.to_builtins(call)}]}
            out.append(self.event(index, b'"delta":' + encode_json(delta)))
        return out


def _generation_request(data: ChatCompletionRequest) -> GenerationRequest:
    if data.top_logprobs is not None and not data.logprobs:
        raise FieldError("top_logprobs needs logprobs=true", param="top_logprobs")
    tools, call = chosen_tools(data)
    constraint = answer_constraint(data.response_format, data.structured_outputs)
    if call and constraint:
        raise FieldError("a required tool call cannot have a response_format", param="tool_choice")
    max_tokens = data.max_completion_tokens if data.max_completion_tokens is not None else data.max_tokens
    logprobs = (data.top_logprobs or 0) if data.logprobs else None
    return GenerationRequest(
        messages=tuple(_message(message, index) for index, message in enumerate(data.messages)),
        sampling=sampling_params(
            data, max_tokens=max_tokens, logprobs=logprobs, constraint=call or constraint
        ),
        tools=tools,
        template_options=data.chat_template_kwargs or {},
    )


def _message(message: ChatMessage, index: int) -> Message:
    where = f"messages[{index}]"
    if message.role == "tool" and message.tool_call_id is None:
        raise FieldError(f"'{where}.tool_call_id' is required", param=f"{where}.tool_call_id")
    calls = message.tool_calls or []
    if calls and message.role != "assistant":
        raise FieldError("only an assistant turn has tool_calls", param=f"{where}.tool_calls")
    return Message(
        role="system" if message.role == "developer" else message.role,
        content="" if calls and message.content is None else text_of(message.content, f"{where}.content"),
        name=message.name,
        tool_calls=tuple(_template_call(call, f"{where}.tool_calls") for call in calls),
        tool_call_id=message.tool_call_id,
    )


def _template_call(call: ToolCall, where: str) -> dict[str, Any]:
    """Templates want the arguments as an object."""
    try:
        arguments = msgspec.json.decode(call.function.arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise FieldError(f"the arguments of '{call.function.name}' are not a JSON object", param=where)
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.function.name, "arguments": arguments},
    }


def text_of(content: Any, param: str) -> str:
    """The text of a message's content, a string or a list of parts.

    Raises:
        FieldError: there is none, or a part is something else than text.
    """
    if isinstance(content, str):
        return content
    if content is None:
        raise FieldError(f"'{param}' is required", param=param)
    for number, part in enumerate(content):
        if part.type != "text" or part.text is None:
            raise FieldError(
                f"'{param}[{number}]' is not a text part",
                param=param,
                hint='parts are {"type": "text", "text": "..."}; images and sounds are not supported',
            )
    return "".join(part.text for part in content)


def _completion(
    data: ChatCompletionRequest, asked: GenerationRequest, answers: list[Completion], usage: Usage
) -> ChatCompletion:
    return ChatCompletion(
        id=new_id("chatcmpl"),
        object="chat.completion",
        created=int(time.time()),
        model=data.model,
        choices=[
            _choice(index, answer, _reader(data) if asked.tools else None, bool(data.logprobs))
            for index, answer in enumerate(answers)
        ],
        usage=usage_counts(usage),
    )


def _reader(data: ChatCompletionRequest) -> ToolCallReader:
    names = {tool.function.name for tool in data.tools or ()}
    return ToolCallReader(names, parallel=data.parallel_tool_calls is not False)


def _choice(index: int, answer: Completion, reader: ToolCallReader | None, logprobs: bool) -> ChatChoice:
    message, reason = AnswerMessage("assistant", answer.text), answer.finish_reason
    if reader is not None:
        (text, calls), (rest, more) = reader.feed(answer.text), reader.end()
        if calls := [*calls, *more]:
            message = AnswerMessage("assistant", (text + rest).strip() or None, tool_calls=calls)
            reason = "tool_calls" if reason == "stop" else reason
    return ChatChoice(index, message, choice_logprobs(answer.logprobs) if logprobs else None, reason)
