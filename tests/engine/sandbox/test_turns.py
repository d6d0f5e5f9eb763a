"""What templates see of a conversation, and what they see next if they fail on that."""

from __future__ import annotations

from typing import Any

import pytest

from lqmf_runner.engine.sandbox.chat_template import ChatTemplate
from lqmf_runner.engine.sandbox.turns import shapes
from lqmf_runner.errors import InvalidRequestError
from lqmf_runner.types import Message

EACH = "{% for m in messages %}BODY{% endfor %}"


def called(arguments: Any, content: str | None = None) -> tuple[Message, ...]:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return (
        Message("user", "hi"),
        Message("assistant", content, tool_calls=(call,)),
        Message("tool", "42", tool_call_id="c1"),
    )


def render(body: str, messages: tuple[Message, ...]) -> str:
    return ChatTemplate(EACH.replace("BODY", body), {}).render(messages)


def test_what_is_not_there_has_no_key() -> None:
    [turns] = shapes((Message("user", "hi"), Message("assistant", "")))
    assert turns == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}]
    assert next(shapes((Message("assistant", None),))) == [{"role": "assistant"}]


def test_thoughts_have_both_names_as_in_transformers() -> None:
    turn = {"role": "assistant", "content": "a", "thinking": "hm", "reasoning_content": "hm"}
    assert next(shapes((Message("assistant", "a", reasoning_content="hm"),))) == [turn]
    assert "thinking" not in next(shapes((Message("assistant", "a"),)))[0]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("{{ m.content }};", "hi;;42;"),
        ("{{ m.role + m.content }};", "userhi;assistant;tool42;"),
        ("{{ m.content.strip() }};", "hi;;42;"),
        ("{% if m.content is none %}N{% else %}{{ m.content + '' }}{% endif %};", "hi;N;42;"),
        ("{% if m.content is string %}{{ m.content }}{% else %}{{ raise_exception('text!') }}{% endif %};", "hi;;42;"),
        ("{{ 'content' in m }};", "True;False;True;"),
    ],
)  # fmt: skip
def test_a_turn_without_text_is_rendered_by_templates_of_every_kind(body: str, text: str) -> None:
    assert render(body, called({"a": 1})) == text


CALLS = "{% for c in m.tool_calls or [] %}USE{% endfor %}"
WALK = CALLS.replace("USE", "{% for k, v in c.function.arguments|items %}{{ k }}={{ v }}{% endfor %}.")
JOIN = CALLS.replace("USE", "{{ '<' + c.function.arguments + '>' }}")
JSON = CALLS.replace("USE", "{{ c.function.arguments|tojson }}")


@pytest.mark.parametrize(
    ("arguments", "walked", "joined", "json"),
    [
        ({"a": "é"}, "a=é.", '<{"a": "é"}>', '{"a": "é"}'),
        ({}, ".", "<{}>", "{}"),
        ('{"a": ', ".", '<{"a": >', '"{\\"a\\": "'),
        ("Paris", ".", "<Paris>", '"Paris"'),
        ([1], ".", "<[1]>", "[1]"),
        (None, ".", "<null>", "null"),
        (7, ".", "<7>", "7"),
    ],
)
@pytest.mark.parametrize("content", [None, "", "I call."])
def test_arguments_of_every_kind_are_rendered_by_templates_of_every_kind(
    arguments: Any, walked: str, joined: str, json: str, content: str | None
) -> None:
    messages = called(arguments, content)
    assert render(WALK, messages) == walked
    assert render(JOIN, messages) == joined
    assert render(JSON, messages) == json
    assert (
        render("{{ m.role + m.content }}" + JOIN, messages) == f"userhiassistant{content or ''}{joined}tool42"
    )


def test_a_result_gets_the_name_of_its_call_only_where_a_template_insists() -> None:
    body = "{% if m.role == 'tool' and not m.name %}{{ raise_exception('name!') }}{% endif %}{{ m.name }}"
    assert render(body, called({})) == "f"
    assert render("{{ m.name is defined }};", called({})) == "False;False;False;"
    with pytest.raises(InvalidRequestError, match="name!"):
        render(body, (Message("tool", "42", tool_call_id="another"),))


def test_what_no_shape_helps_is_refused_for_the_first_reason() -> None:
    with pytest.raises(InvalidRequestError, match="first hi"):
        ChatTemplate("{{ raise_exception('first ' ~ messages[0].content) }}", {}).render(called("x"))
    with pytest.raises(InvalidRequestError, match="'dict object' has no attribute 'nothing'"):
        ChatTemplate("{{ messages[1].nothing.at_all }}", {}).render(called({}))


@pytest.mark.parametrize("function", [{"name": "f"}, {"name": "f", "description": None, "parameters": None}])
def test_a_tool_is_what_was_sent_and_whole_only_where_a_template_fails_on_it(
    function: dict[str, Any],
) -> None:
    tools = [{"type": "function", "function": function}]
    sent = "{{ tools[0].function|length }}"
    assert ChatTemplate(sent, {}).render((Message("user", "hi"),), tools=tools) == str(len(function))
    joined = "{{ tools[0].function.name + tools[0].function.description }}"
    assert ChatTemplate(joined, {}).render((Message("user", "hi"),), tools=tools) == "f"
    walked = "{{ tools[0].function.parameters.properties|items|list }}{{ raise_exception('no') if sent }}"
    assert ChatTemplate(walked, {}).render((Message("user", "hi"),), tools=tools) == "[]"


def test_system_messages_are_one_at_the_beginning_for_templates_that_insist() -> None:
    strict = (
        "{% if m.role == 'system' and not loop.first %}{{ raise_exception('must be at the beginning') }}{% endif %}"
        "{{ m.role }}:{{ m.content }};"
    )
    later = (Message("system", "a"), Message("user", "hi"), Message("system", "b"), Message("user", "so"))
    assert render(strict, later) == "system:a\n\nb;user:hi;user:so;"
    assert render("{{ m.role }};", later) == "system;user;system;user;"
    with pytest.raises(InvalidRequestError, match="no system"):
        render("{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}", later)


def test_user_turns_in_a_row_are_one_for_templates_that_insist() -> None:
    """Codex begins every conversation with two."""
    strict = (
        "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}{% endif %}"
        "{{ m.role }}:{{ m.content }};"
    )
    two = (Message("user", "cwd: /"), Message("user", "hi"))
    later = (*two, Message("assistant", "yes"), *two, Message("user", ""))
    assert render(strict, later) == "user:cwd: /\n\nhi;assistant:yes;user:cwd: /\n\nhi;"
    assert render("{{ m.role }};", two) == "user;user;"
    for turns in (
        (*two, Message("assistant", "a"), Message("assistant", "b")),
        (Message("assistant", "a"), *two),
    ):
        with pytest.raises(InvalidRequestError, match="must alternate"):
            render(strict, turns)
    named = tuple(Message("user", "hi", name=name) for name in ("Ann", "Ben"))
    with pytest.raises(InvalidRequestError, match="must alternate"):
        render(strict, named)
