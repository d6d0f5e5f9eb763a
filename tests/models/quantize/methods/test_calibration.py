"""The calibration text that ships, and how a text becomes samples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from lqmf_runner.config import QuantizeMode
from lqmf_runner.errors import UserInputError
from lqmf_runner.models.quantize.methods.calibration import SHIPPED, parse_dialogue, read_documents, samples
from lqmf_runner.models.quantize.methods.gptq import GptqMethod

from ....support.models.tiny import make_tokenizer


def test_shipped_text_is_long_varied_and_does_not_repeat_itself() -> None:
    documents = read_documents(SHIPPED)
    assert sum(len(d.split()) for d in documents) > 6000
    dialogues = [d for d in documents if parse_dialogue(d)]
    assert min(len(dialogues), len(documents) - len(dialogues)) > 15
    words = " ".join(documents).split()
    phrases = Counter(tuple(words[i : i + 12]) for i in range(len(words) - 12))
    assert max(phrases.values()) == 1


def test_dialogues_keep_their_turns() -> None:
    assert parse_dialogue("System: Be brief.\nUser: Hi\nthere\nAssistant: Hello") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi\nthere"},
        {"role": "assistant", "content": "Hello"},
    ]
    assert parse_dialogue("A user: is no dialogue") is None
    for document in read_documents(SHIPPED):
        messages = parse_dialogue(document)
        if messages:
            turns = [m["role"] for m in messages if m["role"] != "system"]
            assert turns == ["user", "assistant"] * (len(turns) // 2)
            assert all(m["content"] for m in messages)


def test_samples_are_of_both_kinds_and_of_the_asked_size() -> None:
    tokenizer = make_tokenizer()
    chosen = samples(tokenizer, read_documents(SHIPPED), count=10, length=100)
    assert [len(sample) for sample in chosen] == [100] * 10
    marked = [tokenizer.convert_tokens_to_ids("<|im_start|>") in sample for sample in chosen]
    assert {True, False} <= set(marked)


def test_without_a_chat_template_everything_is_plain_text() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    chosen = samples(tokenizer, ["User: hello there, " * 10], count=9, length=64)
    assert tokenizer.decode(chosen[0]).startswith("User: hello")


def test_the_only_or_default_template_is_used_and_one_that_refuses_a_dialogue_is_not() -> None:
    tokenizer = make_tokenizer()
    dialogue = ["User: hello there, " * 10]
    for templates in (
        {"chat": "C{{ messages[0].content }}"},
        {"rag": "R", "default": "C{{ messages[0].content }}"},
    ):
        tokenizer.chat_template = templates
        assert tokenizer.decode(samples(tokenizer, dialogue, count=9, length=64)[0]).startswith("Chello")
    for refusing in ("{{ raise_exception('no') }}", {"rag": "R", "tool_use": "T"}):
        tokenizer.chat_template = refusing
        assert tokenizer.decode(samples(tokenizer, dialogue, count=9, length=64)[0]).startswith("User: hello")


def test_text_that_is_no_use_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "calibration.txt"
    file.write_text("=====\n\n=====\n")
    with pytest.raises(UserInputError, match="is empty"):
        read_documents(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserInputError, match="cannot be read"):
        read_documents(file)
    with pytest.raises(UserInputError, match="too short"):
        samples(make_tokenizer(), ["Hi."], count=4, length=512)


def test_a_text_of_the_users_is_known_by_its_content_not_by_its_place(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"

    def recorded(text: str) -> str:
        file.write_text(text)
        return str(GptqMethod().parameters(QuantizeMode(method="gptq", calibration=str(file)))["calibration"])

    first = recorded("one text")
    assert first.startswith("mine.txt (")
    assert str(tmp_path) not in first
    assert first == recorded("one text")
    assert first != recorded("another text")
