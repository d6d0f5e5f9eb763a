"""The bytes of a stream."""

from __future__ import annotations

import json
from typing import Any

from lqmf_runner.errors import EngineLostError
from lqmf_runner.types import Chunk, Usage
from tests.support.server.openai_bodies import chat, completion


def objects(data: bytes) -> list[Any]:
    return [json.loads(part.removeprefix(b"data: ")) for part in data.split(b"\n\n")[:-1]]


def test_all_events_of_a_stream_have_the_same_head() -> None:
    for exchange, kind in ((chat(n=2), "chat.completion.chunk"), (completion(n=2), "text_completion")):
        events = exchange.events()
        found = objects(events.chunks(0, [Chunk(text="a")]) + events.chunks(1, [Chunk(text='"\u2028\n')]))
        assert {event["object"] for event in found} == {kind}
        assert len({event["id"] for event in found}) == 1
        assert {event["model"] for event in found} == {"m"}
        assert "id" in found[0]
        assert exchange.events().chunks(0, [Chunk(text="a")]) != events.chunks(0, [Chunk(text="a")]), (
            "another id"
        )


def test_a_chunk_without_text_is_no_event() -> None:
    events = completion().events()
    assert events.chunks(0, [Chunk(token_ids=(5,))]) == b""


def test_the_end_has_the_counts_only_where_they_are_asked_for() -> None:
    assert chat(stream=True).events().end(Usage()) == b"data: [DONE]\n\n"
    last = chat(stream=True, stream_options={"include_usage": True}).events().end(Usage(prompt_tokens=3))
    assert json.loads(last.partition(b"\n")[0].removeprefix(b"data: "))["usage"]["prompt_tokens"] == 3


def test_an_error_in_mid_stream_says_only_what_a_client_may_see() -> None:
    events = chat().events()
    (known,), (unknown,) = (
        objects(events.failed(EngineLostError("it died"))),
        objects(events.failed(ValueError("x"))),
    )
    assert known["error"]["message"] == "it died"
    assert unknown["error"]["message"].startswith("the request failed inside the server")
