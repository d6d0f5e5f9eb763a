"""Turns of a conversation on their way to a chat template."""

from __future__ import annotations

from typing import Any

import pytest

from lqmf_runner.errors import FieldError
from lqmf_runner.openai_api.bodies.messages import text_of, to_message
from lqmf_runner.openai_api.schemas import ChatMessage, ContentPart, StoredCall, StoredFunction
from lqmf_runner.types import Message
from tests.support.server.openai_bodies import chat


def test_calls_and_their_results_go_to_the_template_as_objects():
    turns = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    ]
    messages = chat(messages=turns).requests[0].messages
    assert messages is not None
    assert messages[1].tool_calls[0]["function"] == {"name": "add", "arguments": {"x": 1}}
    assert messages[2].tool_call_id == "c1"


def test_a_developer_is_the_system_and_parts_are_one_text() -> None:
    parts = [ContentPart("text", "a"), ContentPart("text", "b")]
    assert to_message(ChatMessage("developer", parts), 0) == Message("system", "ab")


@pytest.mark.parametrize("calls", [[], None, [StoredCall(StoredFunction("add"), "c1")]])
def test_an_assistant_may_have_said_nothing(calls: Any) -> None:
    assert to_message(ChatMessage("assistant", None, tool_calls=calls), 1).content is None


@pytest.mark.parametrize("name", ["reasoning_content", "thinking", "reasoning"])
def test_the_thoughts_of_an_assistant_go_along_under_one_name(name: str) -> None:
    for role, thoughts, expected in (
        ("assistant", "hm", "hm"),
        ("user", None, None),
        ("assistant", [{}], None),
    ):
        (message,) = (
            chat(messages=[{"role": role, "content": "a", name: thoughts}]).requests[0].messages or ()
        )
        assert message.reasoning_content == expected


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (ChatMessage("user"), "messages[3].content"),
        (ChatMessage("tool", "42"), "messages[3].tool_call_id"),
        (ChatMessage("tool", None, tool_call_id="c1"), "messages[3].content"),
        (ChatMessage("user", [ContentPart("image_url")]), "messages[3].content"),
        (
            ChatMessage("user", "x", tool_calls=[StoredCall(StoredFunction("add"), "c1")]),
            "messages[3].tool_calls",
        ),
        (ChatMessage("user", "x", prefix=True), "messages[3].prefix"),
    ],
)
def test_a_turn_that_no_template_takes_is_named(message: ChatMessage, param: str) -> None:
    with pytest.raises(FieldError) as caught:
        to_message(message, 3)
    assert caught.value.param == param


def test_a_part_that_is_no_text_is_named_by_its_number() -> None:
    with pytest.raises(FieldError, match=r"'content\[1\]' is not a text part"):
        text_of([ContentPart("text", "a"), ContentPart("image_url")], "content")
