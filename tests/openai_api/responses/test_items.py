from __future__ import annotations

from typing import Any

import pytest

from lqmf_runner.errors import FieldError
from lqmf_runner.openai_api.responses.items import read_items, turns
from lqmf_runner.openai_api.schemas import ChatMessage


def conversation(*items: Any, instructions: str | None = None) -> list[Any]:
    """The turns as (role, text, names of calls, thoughts)."""
    found = turns(read_items(items, lambda _: None), instructions)
    return [_seen(turn) for turn in found]


def _seen(turn: ChatMessage) -> tuple[Any, ...]:
    calls = [call.function.name for call in turn.tool_calls or ()]
    return turn.role, turn.content, calls, turn.reasoning_content


def call(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "name": name, "arguments": "{}", "call_id": f"c-{name}"} | more


def output(name: str, text: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": f"c-{name}", "output": text}


USER = {"role": "user", "content": "hi"}
THOUGHTS = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
ANSWER = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "yes"}]}


def test_thoughts_text_and_calls_are_one_turn():
    assert conversation(USER, THOUGHTS, ANSWER, call("a"), call("b"), output("a"), output("b"), ANSWER) == [
        ("user", "hi", [], None),
        ("assistant", "yes", ["a", "b"], "hm"),
        ("tool", "done", [], None),
        ("tool", "done", [], None),
        ("assistant", "yes", [], None),
    ]


def test_thoughts_between_calls_that_wait_stay_in_their_turn():
    turn = conversation(USER, THOUGHTS, call("a"), THOUGHTS, call("b"), output("a"), output("b"))[1]
    assert turn == ("assistant", None, ["a", "b"], "hm\nhm")


def test_two_answers_are_two_turns():
    assert [turn[0] for turn in conversation(USER, ANSWER, THOUGHTS, ANSWER)] == ["user", *["assistant"] * 2]


def test_instructions_and_the_system_messages_of_the_beginning_are_one():
    developer = {"role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]}
    system = {"role": "system", "content": "Be kind."}
    found = conversation(developer, system, USER, developer, instructions="You are a poet.")
    assert found == [
        ("system", "You are a poet.\n\nBe brief.\n\nBe kind.", [], None),
        ("user", "hi", [], None),
        ("developer", "Be brief.", [], None),
    ]


@pytest.mark.parametrize("kind", ["input_text", "output_text", "text"])
def test_an_output_may_be_parts(kind: str):
    parts = [{"type": kind, "text": "a"}, {"type": kind, "text": "b"}]
    assert conversation(USER, call("a"), output("a", parts))[-1] == ("tool", "ab", [], None)


def test_what_an_assistant_has_said_is_taken_as_clients_store_it():
    refusal = {"type": "refusal", "refusal": "no"}
    for content, text in ((None, ""), ("x", "x"), ([refusal], "no"), ([], "")):
        item = {"role": "assistant", "content": content, "id": None, "status": None, "phase": None}
        assert conversation(USER, item)[-1] == ("assistant", text, [], None)
    summary = {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "so"}],
        "encrypted_content": "gA",
    }
    assert conversation(USER, summary, ANSWER)[-1] == ("assistant", "yes", [], "so")


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"role": "user"}, "input[1].content"),
        ({"role": "tool", "content": "x"}, "input[1].role"),
        ({"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}, "input[1].content[0]"),
        ({"type": "web_search_call", "id": "ws"}, "input[1].type"),
        ({"content": "x"}, "input[1].type"),
        ({"type": "function_call", "arguments": "{}", "call_id": "c"}, "input[1].name"),
        ({"type": "function_call", "name": "a", "arguments": "{}"}, "input[1].call_id"),
        ({"type": "function_call_output", "output": "x"}, "input[1].call_id"),
        ({"type": "item_reference", "id": "msg_1"}, "input[1].id"),
        ({"id": "msg_1"}, "input[1].id"),
        ({"type": "reasoning", "summary": "x"}, "input[1].summary"),
        (output("a"), "input[1].call_id"),
    ],
)
def test_what_is_wrong_with_an_item_is_named(item: dict[str, Any], param: str):
    with pytest.raises(FieldError) as caught:
        conversation(USER, item)
    assert caught.value.param == param


def test_items_have_ids_and_keep_their_own():
    given = [USER, ANSWER | {"id": "msg_mine"}]
    first, second = read_items(given, lambda _: None)
    assert first["id"].startswith("msg_")
    assert second["id"] == "msg_mine"
    assert read_items([{"type": "item_reference", "id": "msg_mine"}], {"msg_mine": second}.get) == [second]
