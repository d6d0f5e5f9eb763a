from __future__ import annotations

import time

from lqmf_runner.openai_api.responses.schemas import Response, ResponseReasoning, ResponseText
from lqmf_runner.server.responses import Item, KeptResponses


def response(name: str) -> Response:
    return Response(
        id=name, created_at=0, status="completed", model="m", reasoning=ResponseReasoning(), temperature=1,
        text=ResponseText({}), top_p=1,
    )  # fmt: skip


def message(name: str, text: str = "") -> Item:
    return {"id": name, "type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def test_an_owner_finds_its_own_responses_alone():
    kept = KeptResponses(limit=9, max_bytes=1e6, timeout_s=10)
    kept.keep("a", response("r"), [message("i")], None)
    assert kept.find("b", "r") is None
    assert kept.find_item("b", "i") is None
    assert not kept.forget("b", "r")
    found = kept.find("a", "r")
    assert found is not None
    assert found.response == response("r")
    assert kept.find_item("a", "i") == message("i")
    assert kept.find_item("a", "input_text") is None  # a text in an item is no id
    assert kept.forget("a", "r")
    assert kept.find("a", "r") is None
    assert (len(kept), kept.n_bytes) == (0, 0)


def test_the_owner_with_most_loses_its_longest_unused():
    now = 0.0
    kept = KeptResponses(limit=3, max_bytes=1e6, timeout_s=10, clock=lambda: now)
    kept.keep("quiet", response("q"), [], None)
    for name in ("r1", "r2"):
        kept.keep("busy", response(name), [], None)
    assert kept.find("busy", "r1")
    kept.keep("busy", response("r3"), [], None)
    assert [name for name in ("r1", "r2", "r3") if kept.find("busy", name)] == ["r1", "r3"]
    assert kept.find("quiet", "q")
    now = 9.0
    assert kept.find("quiet", "q")
    now = 11.0
    assert len(kept) == 1
    now = 20.0
    assert (len(kept), kept.n_bytes) == (0, 0)


def test_a_turn_that_several_responses_hold_counts_once():
    kept = KeptResponses(limit=99, max_bytes=1e6, timeout_s=10)
    kept.keep("a", response("r0"), [message("i", "x" * 10_000)], None)
    for number in range(1, 50):
        kept.keep("a", response(f"r{number}"), [message(f"i{number}")], kept.find("a", f"r{number - 1}"))
    assert 10_000 < kept.n_bytes < 80_000
    kept.forget("a", "r0")  # the others still hold its turn
    last = kept.find("a", "r49")
    assert last is not None
    assert (len(last.items), last.conversation, last.items[0]["id"]) == (50, "r0", "i")
    assert kept.find_item("a", "i")
    for number in range(1, 50):
        kept.forget("a", f"r{number}")
    assert kept.n_bytes == 0


def test_bytes_are_bounded_and_a_response_that_is_larger_is_not_kept():
    kept = KeptResponses(limit=99, max_bytes=30_000, timeout_s=10)
    kept.keep("quiet", response("q"), [], None)
    for number in range(9):
        kept.keep("busy", response(f"r{number}"), [message("i", "x" * 10_000)], None)
        assert kept.n_bytes <= 30_000
    assert kept.find("busy", "r8")
    assert kept.find("quiet", "q")
    kept.keep("busy", response("large"), [message("i", "x" * 40_000)], None)
    assert kept.find("busy", "large") is None
    assert kept.find("quiet", "q")


def test_an_item_is_found_as_long_as_one_turn_has_it():
    kept = KeptResponses(limit=9, max_bytes=1e6, timeout_s=10)
    kept.keep("a", response("r1"), [message("i", "first")], None)
    kept.keep("a", response("r2"), [message("i", "second")], None)
    assert kept.find_item("a", "i") == message("i", "second")
    kept.forget("a", "r2")
    assert kept.find_item("a", "i") == message("i", "first")
    kept.forget("a", "r1")
    assert kept.find_item("a", "i") is None


def test_many_items_of_a_long_conversation_are_found_in_a_moment():
    """A client may refer to each item of a conversation instead of sending it, 16384 of them in one request."""
    kept = KeptResponses(limit=500, max_bytes=1e9, timeout_s=10)
    for number in range(500):
        previous = kept.find("a", f"r{number - 1}")
        kept.keep("a", response(f"r{number}"), [message(f"i{number}")], previous)
    started = time.process_time()
    assert all(kept.find_item("a", f"i{number % 500}") for number in range(16384))
    assert time.process_time() - started < 5  # a search through all turns takes minutes
