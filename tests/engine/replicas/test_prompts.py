from __future__ import annotations

from lqmf_runner.engine.replicas.held import HeldPrompts
from lqmf_runner.engine.replicas.prompts import USUAL_OUTPUT, describe
from lqmf_runner.types import GenerationRequest, Message, SamplingParams

LONG = "The quick brown fox jumps over the lazy dog. " * 20


def chat(*texts: str) -> GenerationRequest:
    roles = ("system", "user", "assistant")
    return GenerationRequest(messages=tuple(Message(roles[i % 3], text) for i, text in enumerate(texts)))


def test_the_blocks_of_a_conversation_begin_with_those_of_its_earlier_turns():
    first, later = describe(chat(LONG, "Hi")), describe(chat(LONG, "Hi", "Hello!", "And then?" * 20))
    assert len(first.blocks) >= 12
    shared = len(first.blocks) - 1  # the last one has the end of the list in it
    assert later.blocks[:shared] == first.blocks[:shared]
    assert len(later.blocks) > len(first.blocks)


def test_a_difference_at_the_beginning_changes_every_block():
    assert not set(describe(chat("A" + LONG, "Hi")).blocks) & set(describe(chat("B" + LONG, "Hi")).blocks)


def test_token_ids_are_counted_and_texts_are_estimated():
    ids = GenerationRequest(prompt_tokens=tuple(range(40)), sampling=SamplingParams(max_tokens=7))
    assert (describe(ids).tokens, len(describe(ids).blocks), describe(ids).output_tokens) == (40, 2, 7)
    text = GenerationRequest(prompt="x" * 400, sampling=SamplingParams(max_tokens=None))
    assert (describe(text).tokens, describe(text).output_tokens) == (100, USUAL_OUTPUT)


def test_a_text_that_cannot_be_encoded_is_left_to_the_engine():
    assert describe(chat("\ud800" + LONG)).blocks == ()


def test_tools_are_part_of_the_prompt():
    tool = {"type": "function", "function": {"name": "f", "description": LONG}}
    plain, with_tool = chat(LONG), GenerationRequest(messages=chat(LONG).messages, tools=(tool,))
    assert describe(with_tool).tokens > describe(plain).tokens + 200
    assert describe(with_tool).blocks[0] != describe(plain).blocks[0]


def test_a_conversation_that_goes_on_takes_one_place():
    held = HeldPrompts(2)
    for turns in range(1, 6):
        held.add(tuple(range(turns)))
    assert (len(held), held.matched(range(10))) == (1, 5)


def test_the_longest_unused_prompt_is_forgotten_and_shared_blocks_stay():
    held = HeldPrompts(2)
    held.add((1, 2, 3))
    held.add((1, 2, 4))
    held.add((1, 2, 5))
    assert held.matched((1, 2, 3)) == 2
    assert held.matched((1, 2, 5)) == 3
    held.clear()
    assert held.matched((1, 2, 5)) == 0
