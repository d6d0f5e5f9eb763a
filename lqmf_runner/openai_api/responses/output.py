"""The items of an answer while it streams, and their events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ...types import Chunk, TokenLogprob
from ..answers import choice_logprobs, new_id
from ..schemas import ContentLogprob, ToolCall
from ..tool_calls import ToolCallReader
from .schemas import (
    FunctionCallItem,
    OutputItem,
    OutputMessage,
    OutputText,
    ReasoningItem,
    ReasoningText,
)
from .tools import Function

Event = dict[str, Any]
"""What an event says, by field; `type` is its name."""
Ending = Literal["completed", "incomplete"]


class Output:
    """Takes the chunks of one answer. An item is open until another one begins or the answer ends.

    Args:
        reader: reads calls out of the text; None if no tools were offered.
        functions: those that were offered, by the name that the model sees.
        logprobs: whether texts have log-probabilities.
    """

    def __init__(
        self, reader: ToolCallReader | None, functions: Mapping[str, Function], *, logprobs: bool
    ) -> None:
        self.items: list[OutputItem] = []
        self.finish_reason: str | None = None
        self._reader = reader
        self._functions = functions
        self._wants_logprobs = logprobs
        self._open: OutputMessage | ReasoningItem | None = None
        self._texts: list[str] = []  # of the open item
        self._space = ""  # held back, as none is sent before a call
        self._logprobs: list[TokenLogprob] = []  # of text that is held back

    def feed(self, chunk: Chunk) -> list[Event]:
        """The events for a chunk."""
        events: list[Event] = []
        if chunk.reasoning:
            events += self._think(chunk.reasoning)
        if self._wants_logprobs:
            self._logprobs += chunk.logprobs
        text, calls = self._reader.feed(chunk.text) if self._reader else (chunk.text, [])
        events += self._out(text, calls)
        self.finish_reason = chunk.finish_reason or self.finish_reason
        return events

    @property
    def ending(self) -> Ending:
        """The status at the end of the answer."""
        return "incomplete" if self.finish_reason == "length" else "completed"

    def end(self) -> list[Event]:
        """The events for what was held back, and for the end of the last item. An answer has one item at least."""
        events = self._out(*self._reader.end()) if self._reader else []
        if self._logprobs and isinstance(self._open, OutputMessage):
            events += self._say("")
        if not any(not isinstance(item, ReasoningItem) for item in self.items):
            events += self._begin_message()
        return events + self._close(self.ending)

    def cut(self) -> None:
        """End the last item after an error, with the text that has been sent of it."""
        self._close("incomplete")

    def _out(self, text: str, calls: list[ToolCall]) -> list[Event]:
        events: list[Event] = []
        if self._reader and not isinstance(self._open, OutputMessage):
            text, self._space = self._space + text, ""
            if text.isspace():
                text, self._space = "", text
        if text:
            events += self._say(text)
        for call in calls:
            events += self._close("completed")
            self._space = ""
            self._logprobs.clear()
            events += self._call(call)
        return events

    def _think(self, thoughts: str) -> list[Event]:
        events: list[Event] = []
        if not isinstance(self._open, ReasoningItem):
            events += self._close("completed")
            self._open = ReasoningItem(new_id("rs", "_"), "in_progress")
            events += self._begin(self._open, ReasoningText())
        self._texts.append(thoughts)
        return [*events, self._part("response.reasoning_text.delta", delta=thoughts)]

    def _say(self, text: str) -> list[Event]:
        events = [] if isinstance(self._open, OutputMessage) else self._begin_message()
        new: list[ContentLogprob] = []
        if self._logprobs:
            new = choice_logprobs(self._logprobs).content
            self._logprobs.clear()
            self._message_logprobs += new
        self._texts.append(text)
        return [*events, self._part("response.output_text.delta", delta=text, logprobs=new)]

    def _begin_message(self) -> list[Event]:
        events = self._close("completed")
        self._message_logprobs: list[ContentLogprob] = []
        self._open = OutputMessage(new_id("msg", "_"), "in_progress")
        return events + self._begin(self._open, OutputText())

    def _begin(self, item: OutputMessage | ReasoningItem, part: OutputText | ReasoningText) -> list[Event]:
        self.items.append(item)
        self._texts = []
        return [
            self._item("response.output_item.added", msgspec.structs.replace(item)),
            self._part("response.content_part.added", part=part),
        ]

    def _close(self, ending: Ending) -> list[Event]:
        item, self._open = self._open, None
        if item is None:
            return []
        text = "".join(self._texts)
        part: OutputText | ReasoningText
        if isinstance(item, OutputMessage):
            part = OutputText(text, logprobs=self._message_logprobs)
            item.content = [part]
            done = self._part("response.output_text.done", text=text, logprobs=part.logprobs)
        else:
            part = ReasoningText(text)
            item.content = [part]
            done = self._part("response.reasoning_text.done", text=text)
        item.status = ending
        return [
            done,
            self._part("response.content_part.done", part=part),
            self._item("response.output_item.done", item),
        ]

    def _call(self, call: ToolCall) -> list[Event]:
        arguments = call.function.arguments
        item = FunctionCallItem(new_id("fc", "_"), call.id, call.function.name, arguments, "completed")
        function = self._functions.get(item.name)
        if function and function.namespace:
            item.name, item.namespace = function.name, function.namespace
        self.items.append(item)
        begun = msgspec.structs.replace(item, arguments="", status="in_progress")
        where = {"output_index": len(self.items) - 1, "item_id": item.id}
        kind = "response.function_call_arguments"
        return [
            self._item("response.output_item.added", begun),
            {"type": f"{kind}.delta", **where, "delta": arguments},
            {"type": f"{kind}.done", **where, "name": item.name, "arguments": arguments},
            self._item("response.output_item.done", item),
        ]

    def _item(self, kind: str, item: OutputItem) -> Event:
        return {"type": kind, "output_index": len(self.items) - 1, "item": item}

    def _part(self, kind: str, **fields: Any) -> Event:
        """An event of the first part of the last item, which is open."""
        item_id = self.items[-1].id
        place = {"output_index": len(self.items) - 1, "item_id": item_id, "content_index": 0}
        return {"type": kind, **place, **fields}
