"""What of a conversation is sent, and what stays out when the context is full."""

from __future__ import annotations

from msgspec.structs import replace

from lqmf_runner.console.chat.conversation import Conversation, Turn
from lqmf_runner.types import SamplingParams, Usage
from tests.support.engine.scripted import INFO


def talked(turns: int, *, system: str | None = "Be brief.") -> Conversation:
    conversation = Conversation(system)
    conversation.turns = [Turn(f"question {n}", f"answer {n}", "stop") for n in range(turns)]
    conversation.turns.append(Turn("last"))
    return conversation


def sent(conversation: Conversation) -> list[tuple[str, str | None]]:
    request = conversation.request(INFO, SamplingParams())
    return [(message.role, message.content) for message in request.messages or ()]


def test_all_turns_are_sent() -> None:
    assert sent(talked(1)) == [
        ("system", "Be brief."), ("user", "question 0"), ("assistant", "answer 0"), ("user", "last"),
    ]  # fmt: skip


def test_an_answer_is_continued() -> None:
    conversation = talked(1)
    conversation.turns[-1].answer = "half an"
    request = conversation.request(INFO, SamplingParams())
    assert sent(conversation)[-2:] == [("user", "last"), ("assistant", "half an")]
    assert (request.continue_final_message, request.add_generation_prompt) == (True, False)


def test_a_model_without_a_template_completes_text() -> None:
    conversation = talked(1)
    conversation.turns[-1].answer = " and"
    request = conversation.request(replace(INFO, chat_template=False), SamplingParams())
    assert (request.prompt, request.messages) == ("last and", None)


def test_the_oldest_turns_make_room_and_the_system_prompt_stays() -> None:
    conversation = talked(20)
    conversation.counted(Usage(prompt_tokens=373))  # a token for each of its 373 characters
    assert conversation.tokens() == 373
    assert conversation.make_room(2000, 256) == 0
    left_out = conversation.make_room(400, 4000)  # 300 for the prompt, and 100 stay free
    assert left_out == conversation.first > 0
    assert conversation.tokens() <= 200
    assert sent(conversation)[0] == ("system", "Be brief.")
    assert sent(conversation)[1] == ("user", f"question {left_out}")
    assert sent(conversation)[-1] == ("user", "last")
    assert conversation.make_room(400, 4000) == 0
    assert conversation.make_room(0, 4000) == 0


def test_the_last_question_is_always_sent() -> None:
    conversation = talked(3)
    assert [conversation.drop_half() for _ in range(4)] == [2, 1, 0, 0]
    assert sent(conversation) == [("system", "Be brief."), ("user", "last")]
    conversation.undo()
    conversation.undo()
    assert conversation.first == 2


def test_a_question_asked_again_is_without_its_answer() -> None:
    conversation = talked(1)
    conversation.turns[-1].answer = "x"
    again = conversation.asked_again()
    assert sent(again)[-1] == ("user", "last")
    assert conversation.turns[-1].answer == "x"
