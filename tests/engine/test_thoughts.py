"""Thoughts are told apart from the answer, however the text is cut into pieces."""

from __future__ import annotations

import msgspec
import pytest

from lqmf_runner.engine.thoughts import (
    ThoughtReader,
    knows_thoughts,
    opens_thoughts,
    thought_reader,
)
from lqmf_runner.types import Constraint, GenerationRequest, Message, SamplingParams


def read(text: str, size: int, *, opened: bool = False) -> tuple[str, str]:
    reader = ThoughtReader(opened=opened)
    parts = [reader.feed(text[at : at + size]) for at in range(0, len(text), size)] + [reader.end()]
    return "".join(thoughts for thoughts, _ in parts), "".join(said for _, said in parts)


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(
    ("text", "thoughts", "said"),
    [
        ("<think>\nSo: a < b.</think>\n\nYes.", "So: a < b.", "Yes."),
        ("\n<think></think>Yes.", "", "Yes."),
        ("No thoughts, <think>here</think>.", "", "No thoughts, <think>here</think>."),
        ("<think>\nSo:\n\n1\n</think>Yes.", "So:\n\n1", "Yes."),
        ("<think>cut off </thi", "cut off </thi", ""),
        ("<thin", "", "<thin"),
        ("", "", ""),
    ],
)
def test_thoughts_and_text(text: str, size: int, thoughts: str, said: str) -> None:
    assert read(text, size) == (thoughts, said)


@pytest.mark.parametrize("size", [1, 100])
def test_thoughts_that_the_prompt_has_begun(size: int) -> None:
    assert read("So.</think>\nYes.", size, opened=True) == ("So.", "Yes.")


def test_what_a_template_says_of_thoughts() -> None:
    switch = "{% if add_generation_prompt %}assistant{% if not enable_thinking %}<think></think>{% endif %}"
    always = "{% if add_generation_prompt %}assistant<think>{% endif %}"
    assert [knows_thoughts(text) for text in (switch, always, "{{ messages }}")] == [True, True, False]
    assert [opens_thoughts(text, {}) for text in (switch, always, "{{ messages }}")] == [False, True, False]


@pytest.mark.parametrize(
    ("end", "opened"),
    [  # the last has another switch, which is off
        (r"{% if enable_thinking is false %}'<think>\n\n</think>\n\n'{% else %}'<think>\n'{% endif %}", True),
        (r"{% if enable_thinking is true %}'<think>\n'{% else %}'<think>\n\n</think>'{% endif %}", True),
        (r"{% if enable_thinking is false %}'<think>\n\n</think>\n\n'{% endif %}", False),
        (r"{% if not thinking %}'</think>'{% else %}'<think>'{% endif %}", False),
    ],
)
def test_a_template_with_a_switch_may_begin_the_thoughts(end: str, opened: bool) -> None:
    template = "{% if add_generation_prompt %}assistant" + end
    assert opens_thoughts(template, {"enable_thinking": True}) is opened
    assert not opens_thoughts(template, {"enable_thinking": False})
    assert not opens_thoughts(template, {})  # what it does by itself is not known


@pytest.mark.parametrize(
    ("before", "inside"), [("Yes", False), ("<think>So", True), ("<think>So.</think>Yes", False)]
)
def test_what_goes_on_from_a_text_is_within_its_thoughts_alone(before: str, inside: bool) -> None:
    """The template's own beginning is not in such a prompt."""
    turns = (Message("user", "hi"), Message("assistant", before))
    going_on = GenerationRequest(messages=turns, continue_final_message=True)
    for asked in (going_on, GenerationRequest(prompt=before, separate_thoughts=True)):
        reader = thought_reader(asked, thinks=True, opened=True)
        assert reader is not None
        assert reader.read(" on.", last=True) == ((" on.", "") if inside else ("", " on."))


def test_only_chats_with_a_model_that_thinks_are_read_by_themselves() -> None:
    chat, plain = GenerationRequest(messages=(Message("user", "hi"),)), GenerationRequest(prompt="hi")
    wanted = [thought_reader(asked, thinks=thinks) for asked in (chat, plain) for thinks in (True, False)]
    assert [reader is not None for reader in wanted] == [True, False, False, False]
    told = msgspec.structs.replace(chat, separate_thoughts=False)
    assert thought_reader(told, thinks=True) is None
    constrained = SamplingParams(constraint=Constraint("json_object"))
    assert thought_reader(msgspec.structs.replace(chat, sampling=constrained), thinks=True) is None
