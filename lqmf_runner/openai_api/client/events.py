"""Server-sent events, parsed from bytes according to the standard.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream. Lines end in CR, LF or both, a
byte order mark may come first, and an event is the `data` lines before an empty line, joined by line feeds.
"""

from __future__ import annotations

import codecs
import json
import re

_FIELDS = ("", "event", "id", "retry")  # the empty name is a comment's
_OUTSIDE = 4000
_LINE_END = re.compile("\r\n|\n|\r")


class EventParser:
    """Takes the bytes of a stream as they arrive and gives the data of each event that is complete.

    Attributes:
        outside: the beginning of the text that belongs to no event: what an endpoint says that does not stream.
    """

    def __init__(self) -> None:
        self.outside = ""
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._rest = ""
        self._after_cr = False
        self._data: list[str] = []

    def feed(self, data: bytes) -> list[str]:
        """The data of the events that these bytes complete."""
        return self._read(self._decoder.decode(data))

    def end(self) -> list[str]:
        """The data of an event that the end of the stream cut off before its empty line."""
        return self._read(self._decoder.decode(b"", final=True) + "\n\n")

    def _read(self, text: str) -> list[str]:
        if self._after_cr and text:
            text, self._after_cr = text.removeprefix("\n"), False
        *lines, self._rest = _LINE_END.split(self._rest + text)
        if lines and not self._rest and text.endswith("\r"):
            self._after_cr = True  # a line feed that follows belongs to this end of line
        return [event for line in lines for event in self._line(line)]

    def _line(self, line: str) -> list[str]:
        name, _, value = line.partition(":")
        if line and name != "data":
            if name not in _FIELDS and len(self.outside) < _OUTSIDE:
                self.outside += line[:_OUTSIDE] + "\n"
            return []
        # Some endpoints leave the empty line out: data that is whole by itself is an event when the next one begins.
        events = (
            ["\n".join(self._data)] if self._data and (not line or _is_whole("\n".join(self._data))) else []
        )
        if events:
            self._data = []
        if line:
            self._data.append(value.removeprefix(" "))
        return events


def _is_whole(data: str) -> bool:
    if data.strip() == "[DONE]":
        return True
    try:
        json.loads(data)
    except ValueError:
        return False
    return True
