"""Tool calls of a streamed answer, put together from their pieces."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass
class Call:
    """A tool call as far as it has arrived; `arguments` is JSON as the endpoint wrote it."""

    id: str
    name: str
    arguments: str


class CallReader:
    """Takes the pieces of tool calls in the order in which they arrive.

    OpenAI gives each call an index, and the pieces of a call have the same. Other endpoints give all calls index 0, or
    none; there an id of its own, or a name after arguments that are whole, begins another call.

    Attributes:
        calls: in the order in which they began.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._by_index: dict[Any, Call] = {}

    def read(self, piece: dict[str, Any]) -> None:
        """Take in a piece.

        Raises:
            AttributeError, TypeError, ValueError: it is not a piece of a call.
        """
        function = piece.get("function") or {}
        id_, name = str(piece.get("id") or "").strip(), function.get("name") or ""
        arguments = function.get("arguments") or ""
        if isinstance(arguments, dict):
            arguments = json.dumps(arguments)
        index = piece.get("index")
        call = self._by_index.get(index) if index is not None else (self.calls[-1] if self.calls else None)
        if call is None or _begins_another(call, id_, name):
            call = Call(id_, "", "")
            self.calls.append(call)
            self._by_index[index] = call
        if name != call.name:
            call.name += name
        call.id = call.id or id_
        call.arguments += arguments


def _begins_another(call: Call, id_: str, name: str) -> bool:
    if id_ and call.id:
        return id_ != call.id
    return bool(name and call.name) and _is_object(call.arguments)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
