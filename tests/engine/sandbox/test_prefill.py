"""Prompts that open no turn for the answer, and those that end inside the last message."""

from __future__ import annotations

from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from lqmf_runner.engine.sandbox.chat_template import ChatTemplate
from lqmf_runner.errors import InvalidRequestError
from lqmf_runner.types import Message

PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TRIMMING = PLAIN.replace("m.content", "m.content|trim")
CONTINUE: dict[str, Any] = {"add_generation_prompt": False, "continue_final_message": True}


def begun(text: str | None) -> tuple[Message, ...]:
    return (Message("user", "Count."), Message("assistant", text))


@pytest.mark.parametrize("source", [PLAIN, TRIMMING], ids=["plain", "trimming"])
@pytest.mark.parametrize("text", ["1, 2,", "1, 2, ", "  1,\n2\n", "", " ", "assistant", "é猫"])
def test_the_prompt_ends_where_it_ends_in_transformers(source: str, text: str) -> None:
    messages = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": text}]
    [theirs], _ = render_jinja_template([messages], chat_template=source, continue_final_message=True)
    assert ChatTemplate(source, {}).render(begun(text), **CONTINUE) == theirs


def test_the_answer_goes_on_from_the_text() -> None:
    assert ChatTemplate(PLAIN, {}).render(begun("1, 2,"), **CONTINUE).endswith("assistant\n1, 2,")


def test_without_an_opening_the_conversation_ends_with_its_last_turn() -> None:
    text = ChatTemplate(PLAIN, {}).render(begun("1")[:1], add_generation_prompt=False)
    assert text == "<|im_start|>user\nCount.<|im_end|>\n"


@pytest.mark.parametrize("messages", [begun("1"), begun("1")[:1]])
def test_both_are_refused_whoever_spoke_last(messages: tuple[Message, ...]) -> None:
    with pytest.raises(InvalidRequestError, match="continue_final_message and add_generation_prompt"):
        ChatTemplate(PLAIN, {}).render(messages, continue_final_message=True)


@pytest.mark.parametrize(
    ("source", "messages"),
    [
        (PLAIN, begun(None)),
        (PLAIN, ()),
        ("fixed", begun("1")),
        ("{# content #}fixed", begun("1")),
        (PLAIN.replace("m.content", "m.content|upper"), begun("abc")),
        ("{% for m in messages %}{{ m.content[:3] }}{% endfor %}", begun("abc")),
    ],
)
def test_what_cannot_be_continued_is_refused_by_the_name_of_the_field(
    source: str, messages: tuple[Message, ...]
) -> None:
    with pytest.raises(InvalidRequestError, match="continue_final_message"):
        ChatTemplate(source, {}).render(messages, **CONTINUE)
