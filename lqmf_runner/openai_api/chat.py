"""Chat completions: a body to requests, and answers to JSON, complete or as the events of a stream."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ..errors import FieldError
from ..types import Chunk, Completion, GenerationRequest, SamplingParams, Usage
from .answers import choice_logprobs, new_id, usage_counts
from .bodies.answer_constraint import answer_constraint, chosen_tools, or_calls
from .bodies.messages import to_message
from .bodies.sampling import OPENAI_DEFAULTS, most_tokens, sampling_params
from .exchange import Exchange, Scorer, choices
from .schemas import AnswerMessage, ChatChoice, ChatCompletion, ChatCompletionRequest, ToolCall
from .sse import encode_json
from .stream import ChoiceEvents
from .tool_calls import ToolCallReader


class ChatExchange(Exchange):
    """A chat completion.

    Raises:
        FieldError: fields of the body do not go together.
    """

    def __init__(self, data: ChatCompletionRequest, defaults: SamplingParams = OPENAI_DEFAULTS) -> None:
        super().__init__(data)
        request = _generation_request(data, defaults)
        self.requests = choices(request, self.n)
        self.n_choices = self.n
        self._tools = bool(request.tools)
        self._names = {tool["function"]["name"] for tool in request.tools}
        self._parallel = data.parallel_tool_calls is not False
        self._logprobs = bool(data.logprobs)

    async def prepare(self, engine: Scorer, token_texts: dict[int, str]) -> None:
        """Nothing: a chat does not echo its prompt."""

    def events(self) -> ChoiceEvents:
        """`chat.completion.chunk` objects."""
        options: dict[str, Any] = {
            "model": self.model,
            "fingerprint": self.fingerprint,
            "n": self.n,
            "include_usage": self._include_usage,
            "logprobs": self._logprobs,
        }
        return ToolEvents(new_reader=self._reader, **options) if self._tools else ChatEvents(**options)

    def answer(self, completions: Sequence[Completion], usage: Usage) -> ChatCompletion:
        """A `chat.completion` object."""
        return ChatCompletion(
            id=new_id("chatcmpl"),
            object="chat.completion",
            created=int(time.time()),
            model=self.model,
            choices=[self._choice(index, completion) for index, completion in enumerate(completions)],
            usage=usage_counts(usage),
            system_fingerprint=self.fingerprint,
        )

    def key(self) -> list[Any]:
        """The requests, and whether several calls are read out of their answers."""
        one_call = self._tools and not self._parallel
        return [*self.requests, *([{"parallel_tool_calls": False}] if one_call else [])]

    def _reader(self) -> ToolCallReader:
        return ToolCallReader(self._names, parallel=self._parallel)

    def _choice(self, index: int, completion: Completion) -> ChatChoice:
        message, reason = AnswerMessage("assistant", completion.text), completion.finish_reason
        if self._tools:
            reader = self._reader()
            (text, calls), (rest, more) = reader.feed(completion.text), reader.end()
            if calls := [*calls, *more]:
                message = AnswerMessage("assistant", (text + rest).strip() or None, tool_calls=calls)
                reason = "tool_calls" if reason == "stop" else reason
        if completion.reasoning:
            message.reasoning_content = completion.reasoning
        logprobs = choice_logprobs(completion.logprobs) if self._logprobs else None
        return ChatChoice(index, message, logprobs, reason)


class ChatEvents(ChoiceEvents):
    """`chat.completion.chunk`: the first delta has the role, the last is empty and has the reason."""

    kind = "chat.completion.chunk"
    id_prefix = "chatcmpl"
    opening = b'"delta":{"content":'
    closing = b"}"

    def begin(self, index: int) -> list[bytes]:
        """An event with the role."""
        return [self.event(index, b'"delta":{"role":"assistant","content":"","refusal":null}')]

    def reasoning(self, index: int, thoughts: str) -> list[bytes]:
        """A piece of the thoughts."""
        return [self.event(index, b'"delta":{"reasoning_content":' + encode_json(thoughts) + b"}")]

    def finish(self, index: int, reason: str) -> list[bytes]:
        """An empty delta with the finish reason."""
        return [self.event(index, b'"delta":{}', finish=encode_json(reason))]

    def logprobs(self, index: int, chunk: Chunk) -> Any:
        """The log-probabilities of a chunk's tokens."""
        return choice_logprobs(chunk.logprobs)


class ToolEvents(ChatEvents):
    """The same for requests with tools. Calls are held back until they are complete."""

    def __init__(self, *, new_reader: Callable[[], ToolCallReader], **options: Any) -> None:
        super().__init__(**options)
        self._readers = defaultdict[int, ToolCallReader](new_reader)

    def text(self, index: int, chunk: Chunk) -> list[bytes]:
        """Send plain text. Text that may be the beginning of a call is held back."""
        reader = self._readers[index]
        return self._out(index, chunk, *reader.feed(chunk.text))

    def finish(self, index: int, reason: str) -> list[bytes]:
        """Send what was held back, then the finish reason: "tool_calls" if there are any."""
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


def _generation_request(data: ChatCompletionRequest, defaults: SamplingParams) -> GenerationRequest:
    if data.top_logprobs and not data.logprobs:
        raise FieldError("top_logprobs needs logprobs=true", param="top_logprobs")
    tools, call = chosen_tools(data.tools or [], data.tool_choice, data.parallel_tool_calls)
    constraint = answer_constraint(data)
    if call and constraint:
        raise FieldError("a required tool call cannot have a response_format", param="tool_choice")
    limit = "max_tokens" if data.max_completion_tokens is None else "max_completion_tokens"
    goes_on = bool(data.continue_final_message or data.messages[-1].prefix)
    if goes_on and data.add_generation_prompt:
        raise FieldError(
            "continue_final_message and add_generation_prompt exclude each other",
            param="continue_final_message",
        )
    effort = {} if data.reasoning_effort is None else {"reasoning_effort": data.reasoning_effort}
    return GenerationRequest(
        messages=tuple(to_message(message, index) for index, message in enumerate(data.messages)),
        sampling=sampling_params(
            data,
            defaults,
            max_tokens=most_tokens(limit, getattr(data, limit), defaults.max_tokens),
            logprobs=(data.top_logprobs or 0) if data.logprobs else None,
            constraint=call or or_calls(constraint, tools),
        ),
        tools=tools,
        template_options=effort | (data.chat_template_kwargs or {}),
        add_generation_prompt=not goes_on and data.add_generation_prompt is not False,
        continue_final_message=goes_on,
        separate_thoughts=False if data.separate_reasoning is False else None,
    )
