"""Histories as clients store them, prefill, and calls that a model has broken.

Calls whose arguments are no JSON object (llama.cpp #25510, vllm #43995), turns that are empty or carry thoughts
(llama.cpp #17700, ai #14950), the beginning of an answer (llama.cpp #11755, vllm #8942, litellm #28580).
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from lqmf_runner.engine.sandbox.chat_template import ChatTemplate
from lqmf_runner.errors import FieldError
from lqmf_runner.openai_api.tool_calls import ToolCallReader
from lqmf_runner.types import Message

from ...support.server.openai_bodies import chat

USER = {"role": "user", "content": "hi"}
HUGE = json.dumps({"x": 10**30})
YES = {"type": "text", "text": "yes"}
THOUGHTS = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
DUMP = {
    "content": "yes", "refusal": None, "annotations": [], "audio": None, "function_call": None, "tool_calls": None,
}  # fmt: skip


def stored(turn: dict[str, Any]) -> Message:
    """An assistant's turn between two of the user."""
    messages = chat(messages=[USER, {"role": "assistant", **turn}, USER]).requests[0].messages
    assert messages is not None
    return messages[1]


@pytest.mark.parametrize(
    ("turn", "text"),
    [
        ({}, None), ({"content": None}, None), ({"content": None, "tool_calls": []}, None), ({"content": []}, None),
        ({"content": [THOUGHTS, YES]}, "yes"), ({"content": [{"type": "thinking", "thinking": "hm"}, YES]}, "yes"),
        ({"content": [{"type": "reasoning", "reasoning": "x"}, {"type": "output_text", "text": "yes"}]}, "yes"),
        ({"content": [{"type": "refusal", "refusal": "no"}]}, "no"), ({"content": None, "refusal": "no"}, "no"),
        ({"content": ["yes", YES]}, "yesyes"), ({"content": YES}, "yes"), ({"content": [THOUGHTS]}, None),
        (DUMP, "yes"),
        ({"content": "yes", "tool_calls": [None, 5, {"x": 1}]}, "yes"), ({"content": "yes", "name": 5}, "yes"),
    ],
)  # fmt: skip
def test_an_assistant_turn_has_the_text_that_is_in_it(turn: dict[str, Any], text: str | None) -> None:
    assert stored(turn) == Message("assistant", text)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"x": ', '{"x": '), ('"Paris"', '"Paris"'), ("[]", "[]"), ("null", "null"), ("7", "7"), ("", {}), ("{}", {}),
        ("{'x': 1}", "{'x': 1}"), ({"x": 1}, {"x": 1}), (None, {}), ([1], "[1]"), ('{"x": 1}', {"x": 1}),
        ('{"x": NaN}', '{"x": NaN}'), ('{"x": 1e999}', '{"x": 1e999}'), ('{"x": "\\ud800"}', '{"x": "\\ud800"}'),
        (HUGE, HUGE), ({"x": 10**30}, HUGE),
    ],
)  # fmt: skip
@pytest.mark.parametrize("call_id", [{"id": "c1"}, {"id": None}, {}])
def test_a_call_is_passed_on_whatever_its_arguments(
    arguments: Any, expected: Any, call_id: dict[str, Any]
) -> None:
    call = {**call_id, "type": "function", "function": {"name": "f", "arguments": arguments}}
    turn = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": call_id.get("id"), "content": None}
    messages = chat(messages=[USER, turn, result, USER]).requests[0].messages
    assert messages is not None
    assert messages[1].tool_calls[0]["function"] == {"name": "f", "arguments": expected}
    assert (messages[2].content, messages[2].tool_call_id) == ("", call_id.get("id"))


def test_templates_that_insist_on_short_ids_get_them() -> None:
    template = ChatTemplate(
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{% if c.id is undefined or c.id|length != 9 %}"
        "{{ raise_exception('ids have nine letters') }}{% endif %}{{ c.id }}{% endfor %}"
        "{% if m.role == 'tool' %}={{ m.tool_call_id }}{% endif %}{% endfor %}",
        {},
    )
    for given in ({}, {"id": "call_0123456789abcdef"}, {"id": "abcdefgh1"}):
        call = {**given, "function": {"name": "f", "arguments": "{}"}}
        result = {"role": "tool", "tool_call_id": given.get("id"), "content": "2"}
        messages = (
            chat(messages=[USER, {"role": "assistant", "tool_calls": [call]}, result]).requests[0].messages
        )
        assert messages is not None
        called, _, answered = template.render(messages).partition("=")
        assert (called, len(called)) == (answered, 9)


def test_calls_of_older_and_other_clients_are_read() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    assert stored({"function_call": {"name": "f", "arguments": '{"x": 1}'}}).tool_calls == (call,)
    used = {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}
    assert stored({"content": [YES, used]}) == Message("assistant", "yes", tool_calls=({"id": "t", **call},))
    result = chat(messages=[USER, {"role": "function", "name": "f", "content": "2"}]).requests[0].messages
    assert result is not None
    assert result[1] == Message("tool", "2", name="f")


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, {"role": "user"},
        {"role": "user", "content": [THOUGHTS]}, {"role": "user", "content": ["hi"]},
        {"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
        {"role": "user", "content": "x", "prefix": True},
    ],
)  # fmt: skip
def test_users_and_images_stay_as_strict_as_they_are(turn: dict[str, Any]) -> None:
    with pytest.raises(FieldError) as caught:
        chat(messages=[turn])
    assert str(caught.value.param).startswith("messages[0]")


BEGUN = {"role": "assistant", "content": "1, 2,"}


@pytest.mark.parametrize(
    ("last", "fields", "opens", "goes_on"),
    [
        (BEGUN, {}, True, False), (BEGUN, {"continue_final_message": True}, False, True),
        (BEGUN, {"continue_final_message": True, "add_generation_prompt": False}, False, True),
        ({**BEGUN, "prefix": True}, {}, False, True), ({**BEGUN, "partial": True}, {}, False, True),
        ({**BEGUN, "prefix": False}, {"continue_final_message": False}, True, False),
        (USER, {"add_generation_prompt": False}, False, False), (USER, {"add_generation_prompt": True}, True, False),
    ],
)  # fmt: skip
def test_an_answer_can_be_begun(
    last: dict[str, Any], fields: dict[str, Any], opens: bool, goes_on: bool
) -> None:
    for request in chat(messages=[USER, last], n=2, **fields).requests:
        assert (request.add_generation_prompt, request.continue_final_message) == (opens, goes_on)


@pytest.mark.parametrize("last", [BEGUN, USER])
def test_going_on_and_opening_a_turn_exclude_each_other(last: dict[str, Any]) -> None:
    with pytest.raises(FieldError, match="exclude each other"):
        chat(messages=[last], continue_final_message=True, add_generation_prompt=True)


CALL = '<tool_call>{"name":"%s","arguments":%s}</tool_call>'


@pytest.mark.parametrize(
    "arguments",
    [
        '"{\\"a\\": "', '"\\"Paris\\""', '"[1]"', '"Paris"', '{"a":"\\ud800"}', '{"a":1e999}', '{"a":[NaN,-Infinity]}',
        "null", "[1]", "7", '"{\\"a\\": NaN}"',
    ],
)  # fmt: skip
def test_a_call_without_a_json_object_stays_text(arguments: str) -> None:
    for said in (CALL % ("f", arguments), f'{{"name":"f","arguments":{arguments}}}'):
        reader = ToolCallReader({"f"})
        (text, calls), (rest, more) = reader.feed(said), reader.end()
        assert (text + rest, calls + more) == (said, [])


@pytest.mark.parametrize(
    "arguments", ['{"a": 1.1, "b": ["é", null]}', f'{{"a": {10**30}}}', '{"a": -0.0}', "{}"]
)
def test_arguments_that_leave_have_the_same_values_and_come_back(arguments: str) -> None:
    for said in (CALL % ("f", arguments), CALL % ("f", json.dumps(arguments))):
        (call,) = ToolCallReader({"f"}).feed(said)[1]
        assert json.loads(call.function.arguments) == json.loads(arguments)
        turn = {
            "tool_calls": [{"id": call.id, "function": {"name": "f", "arguments": call.function.arguments}}]
        }
        assert stored(turn).tool_calls[0]["id"] == call.id


def test_a_name_that_no_tool_can_have_is_no_call() -> None:
    said = CALL % ("has space!", "{}")
    assert ToolCallReader({"f"}).feed(said) == (said, [])
