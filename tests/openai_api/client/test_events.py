"""Server-sent events in every form that the standard allows, however the bytes are cut."""

from __future__ import annotations

import pytest

from lqmf_runner.openai_api.client.events import EventParser

FORMS = {
    "line feeds": (b'data: {"a": 1}\n\ndata: [DONE]\n\n', ['{"a": 1}', "[DONE]"]),
    "both": (b'data: {"a": 1}\r\n\r\ndata: [DONE]\r\n\r\n', ['{"a": 1}', "[DONE]"]),
    "carriage returns": (b'data: {"a": 1}\r\rdata: [DONE]\r\r', ['{"a": 1}', "[DONE]"]),
    "byte order mark": (b'\xef\xbb\xbfdata: {"a": 1}\n\n', ['{"a": 1}']),
    "no space": (b'data:{"a": 1}\n\n', ['{"a": 1}']),
    "comments and other fields": (b': ping\n\nevent: message\nid: 7\ndata: {"a": 1}\n\n', ['{"a": 1}']),
    "several data lines": (b'data: {"a":\ndata: 1}\n\n', ['{"a":\n1}']),
    "no empty line between": (
        b'data: {"a": 1}\ndata: {"a": 2}\ndata: [DONE]\n',
        ['{"a": 1}', '{"a": 2}', "[DONE]"],
    ),
    "cut off at the end": (b'data: {"a": 1}', ['{"a": 1}']),
    "no data": (b"data\n\ndata:\n\n", ["", ""]),
    "a separator of lines within JSON": ('data: {"a": "x\u2028y"}\n\n'.encode(), ['{"a": "x\u2028y"}']),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_a_stream_is_read_however_it_is_cut(name: str, size: int) -> None:
    data, events = FORMS[name]
    parser = EventParser()
    found = [event for at in range(0, len(data), size) for event in parser.feed(data[at : at + size])]
    assert found + parser.end() == events


def test_an_event_is_given_when_its_empty_line_is_there() -> None:
    parser = EventParser()
    assert parser.feed(b"data: 1\r\r") == ["1"]
    assert parser.feed(b"\ndata: 2\r\n") == []
    assert parser.feed(b"\r\n") == ["2"]


def test_what_belongs_to_no_event_is_kept_short() -> None:
    parser = EventParser()
    stream = b': comment\nid: 5\nretry: 3\nevent: x\n{"error": "boom"}\n' + b"x" * 50_000 + b"\nmore\n"
    assert parser.feed(stream) == []
    assert parser.outside.startswith('{"error": "boom"}\nxxx')
    assert len(parser.outside) < 9_000
