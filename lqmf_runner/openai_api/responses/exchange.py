"""One request to POST /v1/responses and its answer, whole or as events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import msgspec

from ...errors import LqmfError
from ...types import Chunk, Completion, Usage
from ..answers import new_id
from ..bodies.sampling import keep_alive_seconds
from ..errors import error_body, public_error
from ..sse import encode_json
from ..tool_calls import ToolCallReader
from .items import FindItem, Item, read_items
from .output import Event, Output
from .request import generation_request, wants_logprobs
from .schemas import (
    IncompleteDetails,
    InputTokensDetails,
    OutputTokensDetails,
    Response,
    ResponseError,
    ResponseReasoning,
    ResponseRequest,
    ResponseText,
    ResponseUsage,
)
from .tools import finds_nothing, offered_functions

Keep = Callable[[Response], None]


class ResponseExchange:
    """A response.

    Args:
        earlier: the conversation that goes on.
        find: the kept item with an id.
        keep: is given the response once it has ended, before the client has it.

    Raises:
        FieldError: fields of the body are not supported, or do not go together.

    Attributes:
        given: the items of the request's input.
        request: what to generate.
    """

    def __init__(self, data: ResponseRequest, earlier: Sequence[Item], find: FindItem, keep: Keep) -> None:
        self.model = data.model
        self.stream = bool(data.stream)
        self.keep_alive_s = keep_alive_seconds(data.keep_alive)
        self.given = read_items(data.input, find)
        functions = offered_functions(data)
        self.request = generation_request(data, functions, [*earlier, *self.given], len(earlier))
        self._keep = keep
        self._response = _begun(data, self.request.sampling.temperature, self.request.sampling.top_p)
        self._names = {tool["function"]["name"] for tool in self.request.tools}
        self._functions = {function.shown: function for function in functions}
        self._parallel = data.parallel_tool_calls is not False
        self._logprobs = wants_logprobs(data)

    def output(self) -> Output:
        """What takes the chunks of the answer."""
        reader = ToolCallReader(self._names, parallel=self._parallel) if self._names else None
        return Output(reader, self._functions, logprobs=self._logprobs)

    def answer(self, completion: Completion) -> Response:
        """The whole response."""
        output = self.output()
        output.feed(
            Chunk(
                text=completion.text,
                reasoning=completion.reasoning,
                logprobs=completion.logprobs,
                finish_reason=completion.finish_reason,
            )
        )
        output.end()
        return self.ended(output, completion.usage)

    def begun(self) -> Response:
        """The response before its answer."""
        return self._response

    def ended(self, output: Output, usage: Usage) -> Response:
        """The response with its answer, which is then kept."""
        ended = msgspec.structs.replace(
            self._response,
            status=output.ending,
            completed_at=int(time.time()) if output.ending == "completed" else None,
            incomplete_details=None
            if output.ending == "completed"
            else IncompleteDetails("max_output_tokens"),
            output=output.items,
            usage=_usage(usage),
        )
        self._keep(ended)
        return ended

    def failed(self, output: Output, error: LqmfError) -> Response:
        """The response after an error, with the text before it."""
        output.cut()
        detail = error_body(error).error
        code = "rate_limit_exceeded" if error.status == 429 else "server_error"
        return msgspec.structs.replace(
            self._response, status="failed", output=output.items, error=ResponseError(code, detail.message)
        )

    def events(self) -> ResponseEvents:
        """What turns chunks into the events of a stream."""
        return ResponseEvents(self)


class ResponseEvents:
    """The events of one stream, each with its number."""

    def __init__(self, exchange: ResponseExchange) -> None:
        self._exchange = exchange
        self._output = exchange.output()
        self._number = 0

    def chunks(self, index: int, chunks: list[Chunk]) -> bytes:
        """The events for some chunks, after those of the beginning."""
        events = self._begin()
        for chunk in chunks:
            events += self._output.feed(chunk)
        return self._encoded(events)

    def end(self, usage: Usage) -> bytes:
        """The events that end the last item and the response."""
        events = self._begin() + self._output.end()
        response = self._exchange.ended(self._output, usage)
        return self._encoded([*events, {"type": f"response.{response.status}", "response": response}])

    def failed(self, error: Exception) -> bytes:
        """The event for an error in mid-stream."""
        response = self._exchange.failed(self._output, public_error(error))
        return self._encoded([*self._begin(), {"type": "response.failed", "response": response}])

    def _begin(self) -> list[Event]:
        if self._number:
            return []
        response = self._exchange.begun()
        return [{"type": f"response.{name}", "response": response} for name in ("created", "in_progress")]

    def _encoded(self, events: Iterable[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            data = encode_json({**event, "sequence_number": self._number})
            out += (b"event: ", event["type"].encode(), b"\ndata: ", data, b"\n\n")
            self._number += 1
        return b"".join(out)


def _begun(data: ResponseRequest, temperature: float, top_p: float) -> Response:
    """The response before the answer: the request's settings, with defaults."""
    given = data.text.format if data.text else None
    asked = data.reasoning
    return Response(
        id=new_id("resp", "_"),
        created_at=int(time.time()),
        status="in_progress",
        instructions=data.instructions,
        max_output_tokens=data.max_output_tokens,
        model=data.model,
        parallel_tool_calls=data.parallel_tool_calls is not False,
        previous_response_id=data.previous_response_id,
        reasoning=ResponseReasoning(asked.effort, asked.summary or asked.generate_summary)
        if asked
        else ResponseReasoning(),
        store=data.store is not False,
        temperature=temperature,
        text=ResponseText({"type": "text"} if given is None else _without_nulls(given)),
        tool_choice=data.tool_choice or "auto",
        tools=[_whole_tool(tool) for tool in data.tools or () if not finds_nothing(tool)],
        top_logprobs=data.top_logprobs or 0,
        top_p=top_p,
        user=data.user,
        metadata=data.metadata or {},
    )


def _whole_tool(tool: Item) -> Item:
    """A tool with all fields that clients expect in one; it has been read before."""
    if tool["type"] == "namespace":
        return {**tool, "tools": [_whole_tool(one) for one in tool["tools"]]}
    return {"description": None, "parameters": None, "strict": False, **tool}


def _without_nulls(given: msgspec.Struct) -> dict[str, object]:
    return {name: value for name, value in msgspec.structs.asdict(given).items() if value is not None}


def _usage(usage: Usage) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokensDetails(usage.cached_tokens),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputTokensDetails(),
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
    )
